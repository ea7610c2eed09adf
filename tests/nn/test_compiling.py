"""Compiled blocks: the same numbers, nothing left behind, and a clear word where no compiler is."""

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D

import dpiqa_lab as lab
from dpiqa_lab.core.device import choose_compute
from dpiqa_lab.diffusion.taps import FeatureTaps
from dpiqa_lab.nn.compiling import compiled

PLAIN, COMPILED = choose_compute("cpu", "float32"), choose_compute("cpu", "float32", compile=True)
# A compiled block, tapped.
_WITHIN = "up_blocks.1.attentions.0"


@pytest.fixture
def traced(monkeypatch):
    """Compiles by torch's tracer alone, which takes seconds; the batches that were."""
    real, batches = torch.compile, []

    def backend(graph, inputs):
        return graph.forward

    def trace(forward, dynamic):
        assert dynamic is False
        run = real(forward, backend=backend, dynamic=False)

        def counted(x, *args, **kwargs):
            batches.append(len(x))
            return run(x, *args, **kwargs)

        return counted

    monkeypatch.setattr(torch, "compile", trace)
    torch.compiler.reset()
    return batches


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    prompts = torch.randn(1, 7, 128)
    teacher = lab.Teacher(lab.load_backbone("tiny"), prompts, decoder_width=16, image_size=64)
    with torch.no_grad():
        teacher.quality_feature_decoder.regressor.fc3.weight.mul_(1e4)  # small differences show
    return teacher.eval()


def _changed(network):
    return [m for m in network.modules() if "forward" in vars(m)]


@pytest.mark.medium
def test_scores_are_those_of_the_plain_blocks_and_smaller_batches_stay_plain(teacher, traced):
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with teacher.evaluation(PLAIN):
        expected = teacher(images).score
        with FeatureTaps(teacher.backbone.unet, [_WITHIN]) as plain:
            teacher(images)
    assert not traced
    with teacher.evaluation(COMPILED):
        blocks = len(_changed(teacher))
        assert blocks > 20
        found = teacher(images[:2]).score
        assert set(traced) == {2}
        once = len(traced)
        with teacher.evaluation(COMPILED):  # within another: compiled already
            again = teacher(images[:1]).score
        assert len(traced) == once
        with FeatureTaps(teacher.backbone.unet, [_WITHIN]) as seen:
            teacher(images)
        assert traced[-1] == 3
    assert torch.allclose(found, expected[:2], rtol=1e-4)
    assert torch.allclose(again, expected[:1], rtol=1e-4)
    assert torch.allclose(seen[_WITHIN], plain[_WITHIN], atol=1e-4)
    assert (expected[0] - expected[1]).abs() > 1e-3
    assert not _changed(teacher)


@pytest.mark.medium
def test_gradients_are_those_of_the_plain_blocks(teacher, traced):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    gradients = []
    for way in (False, True):
        teacher.train().zero_grad()
        with compiled(teacher, way):
            teacher(images).score.sum().backward()
        gradients.append([p.grad.clone() for p in teacher.parameters() if p.grad is not None])
    teacher.zero_grad()
    assert traced
    for plain, found in zip(*gradients, strict=True):
        assert (plain - found).abs().max() <= 1e-4 * plain.abs().max() + 1e-6


def test_nothing_is_left_behind_after_an_error(teacher, traced):
    with pytest.raises(KeyboardInterrupt), compiled(teacher):
        raise KeyboardInterrupt
    assert not _changed(teacher)


def test_a_missing_compiler_is_told_of(teacher, monkeypatch):
    class InductorError(torch._dynamo.exc.ShortenTraceback):
        pass

    def broken(*args, **kwargs):
        why = "InvalidCxxCompiler: No working C++ compiler found\nlong tail"
        raise InductorError(why, first_useful_frame=None)

    monkeypatch.setattr(torch, "compile", lambda *args, **kwargs: broken)
    told = "no compiler works .InductorError: InvalidCxxCompiler: No working C.. compiler"
    with pytest.raises(lab.LabError, match=told):
        teacher.score([torch.rand(3, 64, 64)], device="cpu", compile=True)
    assert not _changed(teacher)


def test_errors_of_the_block_itself_stay_what_they_are(traced):
    block = ResnetBlock2D(in_channels=32, temb_channels=None)
    with compiled(block), torch.no_grad(), pytest.raises(RuntimeError, match="channels"):
        block(torch.rand(1, 16, 4, 4), None)


def test_int8_is_not_compiled():
    with pytest.raises(lab.LabError, match="cannot be compiled"):
        choose_compute("cpu", "int8", compile=True)
    assert "compiled" in str(COMPILED)
    assert "compiled" not in str(PLAIN)


@pytest.mark.slow  # half a minute for one block
def test_torch_s_own_compiler_gives_the_block_s_numbers():
    torch.compiler.reset()
    torch.manual_seed(0)
    block = ResnetBlock2D(in_channels=32, temb_channels=None)
    x = torch.rand(2, 32, 8, 8)
    with torch.no_grad():
        expected = block(x, None)
        with compiled(block):
            found = block(x, None)
    assert torch.allclose(found, expected, atol=1e-5)
    x.requires_grad_()
    (plain,) = torch.autograd.grad(block(x, None).square().sum(), x)
    with compiled(block):
        (found,) = torch.autograd.grad(block(x, None).square().sum(), x)
    assert torch.allclose(found, plain, rtol=1e-4, atol=1e-5)
