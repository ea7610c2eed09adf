"""Keys and values of the prompts: computed once, equal to the plain way, and never out of date."""

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0

import dpiqa_lab as lab
from dpiqa_lab.core.device import choose_compute
from dpiqa_lab.diffusion.attention import fixed_prompts


def _drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _cross(unet):
    return [m for m in unet.modules() if isinstance(m, Attention) and m.is_cross_attention]


def _counted(unet):
    """Grows whenever a cross-attention projects the prompts to keys."""
    count = []
    for attention in _cross(unet):
        attention.to_k.register_forward_hook(lambda *_: count.append(1))
    return count


def _plain(backbone, latents, prompts):
    """The usual processor, prompts repeated for every photograph."""
    before = backbone.unet.attn_processors
    backbone.unet.set_attn_processor(AttnProcessor2_0())
    try:
        each = [backbone.denoise(latent[None], 7, prompts) for latent in latents]
    finally:
        backbone.unet.set_attn_processor(dict(before))
    return torch.cat(each)


@pytest.fixture(autouse=True, scope="module")
def _no_denormals():
    """Vanishing gradients are otherwise many times slower on a CPU; trainings do the same."""
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(params=["tiny", "another"])
def backbone(request):
    """The tiny one, and a random U-Net of Stable Diffusion's topology with other widths."""
    name = "tiny" if request.param == "tiny" else str(request.getfixturevalue("kl_folder"))
    return lab.load_backbone(name)


@torch.no_grad()
def test_kept_projections_give_the_plain_outputs_and_are_computed_once(backbone):
    prompts = _drawn(1, 20, backbone.unet.config.cross_attention_dim)
    latents = _drawn(2, 4, 8, 8)
    expected = _plain(backbone, latents, prompts)
    count = _counted(backbone.unet)
    layers = len(_cross(backbone.unet))
    with fixed_prompts(backbone.unet):
        for part in (latents, latents[:1], latents):
            found = backbone.denoise(part, 7, prompts)
        assert len(count) == layers
        with fixed_prompts(backbone.unet):  # a block within serves from the outer one
            backbone.denoise(latents, 7, prompts)
        backbone.denoise(latents, 7, prompts)
        assert len(count) == layers
        other = backbone.denoise(latents, 7, prompts.flip(1) * 2)
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(other, _plain(backbone, latents, prompts * 2), atol=1e-5)
    assert not torch.allclose(other, expected, atol=1e-4)
    count.clear()
    for _ in range(2):
        backbone.denoise(latents, 7, prompts)
    assert len(count) == 2 * layers  # nothing is kept beyond the block


def test_a_pass_with_gradients_projects_anew_and_reaches_the_weights():
    backbone = lab.load_backbone("tiny", random_weights=True)
    prompts = _drawn(1, 5, 128).requires_grad_()
    with fixed_prompts(backbone.unet):
        with torch.no_grad():
            backbone.denoise(_drawn(1, 4, 8, 8), 7, prompts)
        backbone.denoise(_drawn(2, 4, 8, 8), 7, prompts).square().sum().backward()
    assert prompts.grad.abs().sum() > 0
    keys = [p.grad for n, p in backbone.unet.named_parameters() if n.endswith("attn2.to_k.weight")]
    assert len(keys) == len(_cross(backbone.unet))
    assert all(gradient.abs().sum() > 0 for gradient in keys)


def test_keys_and_values_once_a_batch_have_the_plain_gradients(backbone):
    prompts = _drawn(1, 9, backbone.unet.config.cross_attention_dim)
    latents = _drawn(2, 4, 8, 8)
    count = _counted(backbone.unet)
    grads = []
    for way in (backbone.denoise, lambda z, t, p: _plain(backbone, z, p)):
        backbone.unet.zero_grad()
        way(latents, 7, prompts).square().sum().backward()
        grads.append({n: p.grad.clone() for n, p in backbone.unet.named_parameters()})
        if len(grads) == 1:
            assert len(count) == len(_cross(backbone.unet))
    for name, gradient in grads[0].items():
        scale = grads[1][name].abs().max() + 1e-6
        assert (gradient - grads[1][name]).abs().max() < 1e-3 * scale, name


def test_an_error_within_the_block_leaves_nothing_behind():
    backbone = lab.load_backbone("tiny", random_weights=True)
    prompts = _drawn(1, 5, 128)

    def interrupted():
        with torch.no_grad(), fixed_prompts(backbone.unet):
            backbone.denoise(_drawn(1, 4, 8, 8), 7, prompts)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    processors = {m.processor for m in backbone.unet.modules() if isinstance(m, Attention)}
    assert len(processors) == 2 * len(_cross(backbone.unet))  # each attention has its own
    assert not any(p.keep or p._kept for p in processors)


def _stepped(teacher, images):
    """One step of the fused Adam, whose writes torch does not count."""
    trained = [p for p in teacher.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-4, fused=True)
    teacher.train()(images).score.sum().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.medium
def test_scores_follow_a_training_step_and_a_weight_load():
    torch.manual_seed(0)
    teacher = lab.Teacher(
        lab.load_backbone("tiny"), _drawn(1, 20, 128), decoder_width=16, image_size=64
    )
    with torch.no_grad():
        teacher.quality_feature_decoder.regressor.fc3.weight.mul_(1e4)  # small differences show
    images = torch.rand(2, 3, 64, 64)
    saved = {name: value.clone() for name, value in teacher.state_dict().items()}
    count = _counted(teacher.backbone.unet)

    def scored():
        count.clear()
        found = torch.from_numpy(teacher.score(list(images), batch_size=1, device="cpu"))
        assert len(count) == len(_cross(teacher.backbone.unet))  # for both batches
        with torch.no_grad():
            expected = teacher.eval()(images).score
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-3)
        return found

    first = scored()
    _stepped(teacher, images)
    assert not torch.allclose(scored(), first, rtol=0, atol=0.1)
    teacher.load_state_dict(saved)
    assert torch.allclose(scored(), first, rtol=1e-4, atol=1e-3)
    teacher.load_state_dict({**saved, "prompt_embeddings": saved["prompt_embeddings"].flip(2)})
    assert not torch.allclose(scored(), first, rtol=0, atol=0.02)
    # An evaluation between the pass and its step, as no loop of the lab has it.
    loss = teacher.train()(images).score.sum()
    scored()
    loss.backward()
    torch.optim.Adam([p for p in teacher.parameters() if p.requires_grad], 1e-4, fused=True).step()
    scored()


def test_adapted_prompts_are_folded_for_a_run_of_scoring():
    teacher = lab.Teacher(
        lab.load_backbone("tiny"), _drawn(1, 20, 128), decoder_width=16, image_size=64
    )
    calls = []
    teacher.text_adapter.register_forward_hook(lambda *_: calls.append(1))
    teacher.score([torch.rand(3, 64, 64)] * 4, batch_size=1, device="cpu")
    assert len(calls) == 1
    with teacher.evaluation(choose_compute("cpu", "float32")), torch.enable_grad():
        teacher(torch.rand(1, 3, 64, 64)).score.sum().backward()  # trains the adapter as ever
    assert teacher.text_adapter.gamma.grad.abs().sum() > 0
