import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge

import dpiqa_lab as lab
from dpiqa_lab.core.device import choose_compute
from dpiqa_lab.core.errors import LabError
from dpiqa_lab.diffusion.latents import content_noise, dataset_latents
from dpiqa_lab.probing.features import extract_features
from dpiqa_lab.probing.probe import probe, probe_table
from dpiqa_lab.ridge import ALPHAS, fit_ridge

TAPS = ["mid_block", "up_blocks.1"]
EXACT = choose_compute("cpu", "float32")


def linear(n: int, seed: int, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 5)) * (1, 10, 0.1, 1, 1)
    target = features @ (1, -0.2, 5, 0, 0) + 3
    return features, target + noise * rng.normal(size=n)


def test_ridge_recovers_a_linear_target():
    model = fit_ridge(*linear(200, 0), *linear(50, 1))
    features, mos = linear(50, 2)
    assert model.predict(features) == pytest.approx(mos, abs=0.01)


def test_ridge_chooses_the_penalty_on_validation():
    # Far more features than photographs: only a strong penalty carries over.
    rng = np.random.default_rng(0)
    weights = rng.normal(size=60)
    fit, choose = rng.normal(size=(25, 60)), rng.normal(size=(300, 60))
    model = fit_ridge(fit, fit @ weights + 20 * rng.normal(size=25), choose, choose @ weights)
    assert model["ridge"].alpha > 0.1
    undefined = fit_ridge(*linear(9, 0), *linear(2, 1))
    assert undefined["ridge"].alpha == max(ALPHAS)


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


def test_a_tolerance_takes_the_strongest_penalty_that_costs_no_more():
    rng = np.random.default_rng(2)
    weights = rng.normal(size=20)
    fit, choose = rng.normal(size=(60, 20)), rng.normal(size=(40, 20))
    mos = [x @ weights + 6 * rng.normal(size=len(x)) for x in (fit, choose)]
    known = rng.normal(size=40)
    z, z_val = ((x - fit.mean(0)) / fit.std(0) for x in (fit, choose))
    found = {
        alpha: spearmanr(Ridge(alpha=alpha).fit(z, mos[0]).predict(z_val) + known, mos[1])[0]
        for alpha in ALPHAS
    }
    chosen = []
    for tolerance in (0.0, 0.02, 0.1, 2.0):
        model = fit_ridge(fit, mos[0], choose, mos[1], known, tolerance)
        least = max(found.values()) - tolerance - 1e-9
        assert model["ridge"].alpha == max(a for a, srcc in found.items() if srcc >= least)
        chosen.append(model["ridge"].alpha)
    assert chosen == sorted(set(chosen))
    assert chosen[-1] == max(ALPHAS)
