import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import dpiqa_lab as lab
from dpiqa_lab.core.device import choose_compute
from dpiqa_lab.models.image_adapter import ImageAdapter
from dpiqa_lab.models.initialization import standardise_layers
from dpiqa_lab.models.quality_feature_decoder import QualityFeatureDecoder, SqueezeExcitation
from dpiqa_lab.models.text_adapter import TextAdapter


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    return lab.Teacher(lab.load_backbone("tiny"), decoder_width=16, image_size=64).eval()


@pytest.mark.medium
@torch.no_grad()
def test_patches_are_seen_each_as_if_there_were_nothing_else():
    backbone, images = lab.load_backbone("tiny"), torch.rand(2, 3, 128, 128)
    whole, parted = (
        lab.Teacher(backbone, "none", decoder_head="pooled", decoder_width=16, image_size=128,
                    patches=n).eval()
        for n in (1, 2)
    )  # fmt: skip
    parted.load_state_dict(whole.state_dict())
    latents = whole.encode(images)
    below = whole.levels(images[:, :, 64:, :64], latents[:, :, 8:, :8])
    levels = parted.levels(images)
    assert len(levels) == 8  # up blocks and image adapter
    for level, same, one in zip(levels, whole.levels(images), below, strict=True):
        assert level.shape == same.shape
        half = level.shape[-1] // 2
        torch.testing.assert_close(level[:, :, half:, :half], one, atol=1e-4, rtol=1e-4)
    assert parted(images).score.shape == (2,)


@pytest.mark.medium
@torch.no_grad()
def test_the_decoder_may_read_the_deepest_up_blocks_alone():
    backbone, images = lab.load_backbone("tiny"), torch.rand(1, 3, 64, 64)
    all_levels = lab.Teacher(backbone, "none", image_adapter=False, image_size=64).levels(images)
    two = lab.Teacher(backbone, "none", image_adapter=False, image_size=64, up_blocks=2)
    assert two.taps == ["up_blocks.1", "up_blocks.0"]
    for level, same in zip(two.levels(images), all_levels[-2:], strict=True):
        torch.testing.assert_close(level, same)
    assert two(images).feature_map.shape == (1, 8, 64, 64)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"up_blocks": 5}, "up_blocks must be between 1 and 4, got 5"),
        ({"patches": 3}, "patches must divide the side of the photograph, 64, got 3"),
        ({"patches": 2}, "32"),
    ],
)
def test_impossible_parts_are_refused(wrong, said):
    with pytest.raises(lab.LabError, match=said):
        lab.Teacher(lab.load_backbone("tiny"), "none", image_size=64, **wrong)


def test_text_adapter_formula():
    adapter = TextAdapter(4)
    x = torch.randn(2, 3, 4)
    first, last = adapter.fc[0], adapter.fc[2]
    inner = F.gelu(x @ first.weight.T + first.bias) @ last.weight.T + last.bias
    assert torch.allclose(adapter(x), x + 1e-4 * inner, atol=1e-7)
    assert adapter.gamma.shape == (4,)


def test_squeeze_excitation_formula():
    se = SqueezeExcitation(32)
    x = torch.randn(2, 32, 5, 4)
    squeezed = x.mean((2, 3))
    gate = torch.sigmoid(F.relu(squeezed @ se.fc[0].weight.T) @ se.fc[2].weight.T)
    assert se.fc[0].weight.shape == (2, 32)
    assert torch.allclose(se(x), x * gate[:, :, None, None])


def test_decoder_formula():
    torch.manual_seed(0)
    decoder = QualityFeatureDecoder([3, 5], width=32)
    levels = [torch.randn(2, 3, 64, 64), torch.randn(2, 5, 16, 16)]
    score, feature_map = decoder(levels)
    state = decoder.state_dict()

    def gated(x, name):
        squeezed = x.mean((2, 3))
        hidden = F.relu(squeezed @ state[f"{name}.fc.0.weight"].T)
        return x * torch.sigmoid(hidden @ state[f"{name}.fc.2.weight"].T)[:, :, None, None]

    fitted = []
    for i, level in enumerate(levels):
        x = F.interpolate(level, (64, 64), mode="bicubic", align_corners=False)
        x = F.conv2d(x, state[f"levels.{i}.0.weight"], state[f"levels.{i}.0.bias"], padding=1)
        fitted.append(gated(x, f"levels.{i}.1"))
    x = F.conv2d(torch.cat(fitted, 1), state["fuse.0.weight"], state["fuse.0.bias"], padding=1)
    x = gated(x, "fuse.1")
    for i in (0, 2, 4):
        x = F.relu(F.conv2d(x, state[f"to_map.{i}.weight"], state[f"to_map.{i}.bias"]))
    assert torch.allclose(feature_map, x, atol=1e-5)
    assert feature_map.shape == (2, 8, 64, 64)
    y = x.flatten(1)
    for layer in ("fc1", "fc2"):
        y = F.relu(y @ state[f"regressor.{layer}.weight"].T + state[f"regressor.{layer}.bias"])
    y = y @ state["regressor.fc3.weight"].T + state["regressor.fc3.bias"]
    assert torch.allclose(score, y[:, 0], atol=1e-5)


def test_calibration_standardises_and_starts_at_the_mean():
    torch.manual_seed(0)
    decoder = QualityFeatureDecoder([6], width=32)
    levels = [5 + torch.randn(40, 6, 64, 64)]
    standardise_layers(decoder, lambda: decoder(levels))
    fitted = decoder.levels[0][0](levels[0])
    assert torch.allclose(fitted.mean((0, 2, 3)), torch.zeros(32), atol=0.1)
    with torch.no_grad():
        _, feature_map = decoder(levels)
    assert (feature_map.amax((0, 2, 3)) > 0).all()  # no channel is dead


@pytest.mark.medium
def test_score_and_map_have_the_promised_shapes(teacher):
    images = torch.rand(3, 3, 64, 128)
    with torch.no_grad():
        out = teacher(images)
        same = teacher(images, teacher.encode(images))
    assert out.score.shape == (3,)
    assert out.feature_map.shape == (3, 8, 64, 64)
    assert torch.equal(out.score, same.score)


def test_scores_do_not_depend_on_batch_or_form(teacher, tmp_path):
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)) for _ in range(3)]
    pictures[0].save(tmp_path / "a.png")
    tensor = torch.from_numpy(np.array(pictures[1])).permute(2, 0, 1) / 255
    mixed = [tmp_path / "a.png", tensor, pictures[2]]
    one = teacher.score(mixed, batch_size=1)
    assert one.shape == (3,)
    assert np.allclose(one, teacher.score(pictures, batch_size=3), atol=1e-6)
    assert len(set(one)) == 3
    assert teacher.score([]).shape == (0,)


def test_score_refuses_what_is_no_list_of_photographs(teacher, tmp_path):
    with pytest.raises(lab.LabError, match="takes a list"):
        teacher.score("a.png")
    with pytest.raises(lab.LabError, match=r"nothing\.png: no such file"):
        teacher.score([tmp_path / "nothing.png"])
    with pytest.raises(lab.LabError, match=r"must be \(3, height, width\)"):
        teacher.score([torch.zeros(64, 64)])


@pytest.mark.parametrize("which", ["all", "lora", "adapters", "decoder"])
def test_exactly_what_is_trainable_gets_a_gradient(which):
    teacher = lab.Teacher(lab.load_backbone("tiny"), decoder_width=16, image_size=64)
    teacher.set_trainable(which)
    teacher(torch.rand(2, 3, 64, 64)).score.sum().backward()
    for name, parameter in teacher.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    kept = set(teacher.run_state())
    own = {name for name in teacher.state_dict() if not name.startswith("backbone.")}
    assert own <= kept
    trained = {name for name, p in teacher.named_parameters() if p.requires_grad}
    assert trained <= kept
    unet = {name for name in teacher.state_dict() if name.startswith("backbone.unet.")}
    # Of the backbone a run holds the U-Net where it is trained, or what is added to it.
    expected = {"all": unet, "lora": trained & unet, "adapters": set(), "decoder": set()}[which]
    assert kept - own == expected


def test_lora_trains_little_of_the_unet_and_starts_as_nothing(teacher):
    with_lora = lab.Teacher(lab.load_backbone("tiny"), decoder_width=16, image_size=64)
    with_lora.load_run_state(teacher.run_state())
    images = torch.rand(2, 3, 64, 64)
    before = with_lora.eval()(images).score
    with_lora.set_trainable("lora", lora_rank=2)
    assert torch.equal(with_lora.eval()(images).score, before)
    unet = {n: p for n, p in with_lora.run_state().items() if n.startswith("backbone.unet")}
    assert all("lora" in name for name in unet)
    # A pair of factors, width x 2 and 2 x width, for every projection of every attention.
    expected = sum(
        2 * (layer.in_features + layer.out_features)
        for name, layer in teacher.backbone.unet.named_modules()
        if name.endswith(("to_q", "to_k", "to_v", "to_out.0"))
    )
    assert sum(p.numel() for p in unet.values()) == expected > 0


def test_weights_that_do_not_fit_are_named(teacher):
    state = dict(teacher.run_state())
    state["extra"] = torch.zeros(1)
    state["text_adapter.gamma"] = torch.zeros(3)
    del state["quality_feature_decoder.regressor.fc3.bias"]
    with pytest.raises(lab.LabError) as caught:
        teacher.load_run_state(state)
    for part in ("missing quality_feature_decoder.regressor.fc3.bias", "unexpected extra", "(3,)"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"timestep": 1000}, {"vae_input": "[0,255]"}, {"image_size": 100}]
)
def test_impossible_teachers_are_refused(options):
    with pytest.raises(lab.LabError):
        lab.Teacher(lab.load_backbone("tiny"), **options)


def test_image_adapter_sizes():
    adapter = ImageAdapter([8, 16, 24, 24])
    shapes = [tuple(x.shape) for x in adapter(torch.rand(1, 3, 128, 64))]
    assert shapes == [(1, 8, 16, 8), (1, 16, 8, 4), (1, 24, 4, 2), (1, 24, 2, 1)]


def test_bfloat16_moves_the_map_by_little_and_the_vae_follows(teacher):
    """The whole way, VAE included, within 4% of the map's largest value; latents within 3%."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with teacher.evaluation(choose_compute("cpu", "float32")):
        latents, exact = teacher.encode(images), teacher(images)
    with teacher.evaluation(choose_compute("cpu", "bfloat16")):
        rough_latents, rough = teacher.encode(images), teacher(images)
    assert rough_latents.dtype == rough.score.dtype == torch.float32
    off = (rough_latents - latents).abs().max() / latents.abs().max()
    assert 0 < off < 0.03
    off = (rough.feature_map.float() - exact.feature_map).abs().max() / exact.feature_map.max()
    assert 0 < off < 0.04


@pytest.mark.slow
def test_sd15_size_is_the_published_one_and_scores():
    teacher = lab.Teacher(lab.load_backbone("sd15", random_weights=True))
    counts = {name: round(n / 1e6, 2) for name, n in teacher.parameter_counts().items()}
    assert counts == {
        "vae": 83.65,
        "unet": 859.52,
        "image_adapter": 77.37,
        "text_adapter": 1.18,
        "quality_feature_decoder": 42.93,
    }
    score = teacher.score([torch.rand(3, 512, 512)])
    assert np.isfinite(score).all()
    assert teacher.prompt_embeddings.shape == (1, 1485, 768)
