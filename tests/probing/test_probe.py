import pytest
import torch

import dpiqa_lab as lab
from dpiqa_lab.core.device import choose_compute
from dpiqa_lab.core.errors import LabError
from dpiqa_lab.diffusion.latents import content_noise, dataset_latents
from dpiqa_lab.probing.features import extract_features
from dpiqa_lab.probing.probe import probe, probe_table

TAPS = ["mid_block", "up_blocks.1"]
EXACT = choose_compute("cpu", "float32")


@pytest.fixture(scope="module")
def backbone():
    return lab.load_backbone("tiny")


@pytest.fixture
def photos(small_folder):
    return lab.load_dataset("folder", root=small_folder, mos_range=(0, 100), image_size=64)


def _extract(backbone, photos, cache, **options):
    options = {"timesteps": [1], "taps": TAPS, "prompts": "none", "compute": EXACT, **options}
    return extract_features(backbone, photos, cache_dir=cache, **options)


@torch.no_grad()
def test_features_are_statistics_of_what_a_hook_sees(backbone, photos, tmp_path):
    features = _extract(backbone, photos, tmp_path, timesteps=[1, 300], batch_size=7)
    latents = dataset_latents(backbone, photos, EXACT)[4:5]
    seen = {}
    hook = backbone.unet.mid_block.register_forward_hook(lambda m, i, out: seen.update(mid=out))
    backbone.denoise(latents, 300, "none")
    hook.remove()
    maps = seen["mid"][0]
    wanted = {
        "mean": maps.mean((1, 2)),
        "std": maps.flatten(1).std(1, correction=0),
        "max": maps.amax((1, 2)),
    }
    for pooling, value in wanted.items():
        row = features[300, "mid_block", pooling][4]
        torch.testing.assert_close(row, value, rtol=1e-3, atol=1e-4)
    assert features[1, "up_blocks.1", "grid"].shape == (30, 4 * 128)
    quarters = features[1, "up_blocks.1", "grid"].unflatten(1, (-1, 4)).mean(2)
    torch.testing.assert_close(quarters, features[1, "up_blocks.1", "mean"], rtol=1e-3, atol=1e-4)


def test_only_what_is_new_is_computed(backbone, photos, tmp_path, monkeypatch):
    passes = []
    plain = backbone.denoise

    def counted(latents, timestep, prompts):
        passes.append(timestep)
        return plain(latents, timestep, prompts)

    monkeypatch.setattr(backbone, "denoise", counted)
    first = _extract(backbone, photos, tmp_path, batch_size=30)
    assert passes == [1]
    again = _extract(backbone, photos, tmp_path, timesteps=[1, 50, 100], batch_size=30)
    assert passes == [1, 50, 100]
    _extract(backbone, photos, tmp_path, timesteps=[1, 50, 100], batch_size=30)
    assert len(passes) == 3
    torch.testing.assert_close(again[1, "mid_block", "mean"], first[1, "mid_block", "mean"])
    _extract(backbone, photos, tmp_path, taps=[*TAPS, "up_blocks.0"], batch_size=30)
    assert passes[3:] == [1]


def test_features_do_not_hang_on_what_else_was_asked_for(backbone, photos, tmp_path):
    """Else a run that is resumed would end with other bytes."""
    alone = _extract(backbone, photos, tmp_path / "alone", timesteps=[50], taps=["mid_block"])
    among = _extract(backbone, photos, tmp_path / "among", timesteps=[1, 50, 100])
    for pooling in ("mean", "std", "max", "grid"):
        assert torch.equal(alone[50, "mid_block", pooling], among[50, "mid_block", pooling])


@pytest.mark.medium
def test_noise_follows_the_photograph_and_the_seed(backbone, photos, tmp_path):
    name = 500, "mid_block", "mean"
    one, same, other, none = (
        _extract(backbone, photos, tmp_path / str(i), timesteps=[500], noise_seed=seed)[name]
        for i, seed in enumerate([3, 3, 4, None])
    )
    assert torch.equal(one, same)
    assert not torch.allclose(one, other, rtol=1e-3)
    assert not torch.allclose(one, none, rtol=1e-3)


def test_noise_keeps_unit_variance(backbone):
    latents = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    noise = content_noise("a", 0, latents.shape)
    for timestep in (0, 500, 999):
        assert backbone.add_noise(latents, noise, timestep).std().item() == pytest.approx(
            1, abs=0.02
        )
    # 1 - 0.00085 of the variance is left after the first step of the schedule.
    kept = (1 - 0.00085) ** 0.5
    torch.testing.assert_close(
        backbone.add_noise(latents, torch.zeros_like(noise), 0), kept * latents
    )


def test_probe_reads_contrast_and_says_how_surely(backbone, photos, tmp_path):
    features = _extract(backbone, photos, tmp_path)
    scores = probe(features)
    assert len(scores) == (photos.table["split"] == "test").sum()
    assert lab.metrics.srcc(scores["score"], scores["mos"]) > 0.8
    table = probe_table(features)
    assert table["tap"].tolist() == [*TAPS, "all"]
    assert (table["srcc_low"] <= table["srcc"]).all()
    assert table["srcc"].iloc[-1] == pytest.approx(lab.metrics.srcc(scores["score"], scores["mos"]))


def test_impossible_requests_are_named(backbone, photos, tmp_path):
    with pytest.raises(LabError, match=r"timesteps must be between 0 and 999, got \[1000\]"):
        _extract(backbone, photos, tmp_path, timesteps=[1000])
    with pytest.raises(LabError, match="Did you mean 'mid_block'"):
        _extract(backbone, photos, tmp_path, taps=["mid_blok"])
    features = _extract(backbone, photos, tmp_path)
    with pytest.raises(LabError, match=r"no features of 'up_blocks.3' at timestep 1"):
        features[1, "up_blocks.3", "mean"]
