import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import gennorm

from dpiqa_lab.datasets.brisque_features import (
    asymmetric_gaussian,
    generalised_gaussian,
    naturalness,
    normalised,
)
from dpiqa_lab.datasets.demo import open_picture
from dpiqa_lab.evaluation.baselines import svr_on_naturalness


@pytest.mark.parametrize("shape", [0.7, 1.0, 2.0, 4.0])
def test_the_fit_finds_the_shape_and_variance_drawn_from(shape):
    drawn = gennorm(shape, scale=0.8).rvs(200_000, random_state=0)
    found, variance = generalised_gaussian(torch.from_numpy(drawn)[None])
    assert found.item() == pytest.approx(shape, rel=0.02)
    assert variance.item() == pytest.approx(gennorm(shape, scale=0.8).var(), rel=0.02)


def test_the_asymmetric_fit_finds_both_sides():
    rng = np.random.default_rng(0)
    # Densities that meet at 0: a side's share is as its width.
    left = rng.random(300_000) < 0.3 / (0.3 + 0.9)
    drawn = np.where(left, -0.3, 0.9) * np.abs(rng.standard_normal(300_000))
    shape, mean, low, high = asymmetric_gaussian(torch.from_numpy(drawn)[None])
    assert shape.item() == pytest.approx(2, rel=0.03)
    assert low.sqrt().item() == pytest.approx(0.3, rel=0.02)
    assert high.sqrt().item() == pytest.approx(0.9, rel=0.02)
    # (0.9 - 0.3) gamma(1) / sqrt(gamma(1/2) gamma(3/2))
    assert mean.item() == pytest.approx(0.6 / np.sqrt(np.pi / 2), rel=0.03)


def test_normalised_luma_is_scipy_s():
    luma = 255 * np.random.default_rng(0).random((40, 30))
    blur = lambda x: gaussian_filter(x, 7 / 6, mode="nearest", radius=3)  # noqa: E731
    mean = blur(luma)
    expected = (luma - mean) / (np.sqrt(np.maximum(blur(luma**2) - mean**2, 0)) + 1)
    # Torch pads before the mean of squares is taken, scipy alike: the same at the edges too.
    found = normalised(torch.from_numpy(luma)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_damage_shows():
    pixels = torch.from_numpy(np.asarray(open_picture("chelsea.png"))).permute(2, 0, 1)
    noisy = (pixels + 40 * torch.randn(pixels.shape)).clamp(0, 255).to(torch.uint8)
    clean, rough, flat = (naturalness(x)[0] for x in (pixels, noisy, torch.zeros_like(pixels)))
    assert clean.shape == (36,)
    assert np.isfinite([clean, rough, flat]).all()
    assert rough[1] > 1.5 * clean[1]  # variance of normalised luma, full size


def test_the_regressor_learns_what_noise_does():
    rng = np.random.default_rng(0)

    def photographs(n):
        for _ in range(n):
            level = rng.random()
            smooth = gaussian_filter(rng.random((3, 48, 48)), (0, 4, 4))
            noisy = smooth + 0.2 * level * rng.standard_normal((3, 48, 48))
            image = torch.from_numpy(noisy.clip(0, 1)).float()
            yield {"image": image, "mos": 1 - level}

    train, val, test = (list(photographs(n)) for n in (60, 20, 20))
    found = svr_on_naturalness(train, val, test)["predictions"]
    assert np.corrcoef(found, [item["mos"] for item in test])[0, 1] > 0.9
