import numpy as np
import pytest
import torch

from dpiqa_lab.core.errors import LabError
from dpiqa_lab.datasets.image_statistics import STATISTICS, dataset_statistics, image_statistics
from tests.support.images import NoiseImages


def statistic(name: str, image: torch.Tensor) -> float:
    return image_statistics(image)[0, STATISTICS.index(name)]


def grey(luma: torch.Tensor) -> torch.Tensor:
    return luma.expand(3, *luma.shape)


def coloured(red: float, green: float, blue: float) -> torch.Tensor:
    return torch.tensor([red, green, blue])[:, None, None].expand(3, 8, 8)


CHECKERBOARD = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 0.6 + 0.2
RAMP = torch.linspace(0, 0.7, 8)[:, None] + torch.linspace(0, 0.3, 6)


def test_checkerboard_by_hand():
    image = grey(CHECKERBOARD)
    assert statistic("luma_mean", image) == pytest.approx(0.5)
    assert statistic("luma_std", image) == pytest.approx(0.3)
    assert statistic("entropy", image) == pytest.approx(1)
    # Each Laplacian is four steps of 0.6, each gradient (0.6, 0.6), each noise mask 8 of 0.6.
    assert statistic("laplacian_log_variance", image) == pytest.approx(np.log(2.4**2), abs=1e-5)
    assert statistic("gradient_log_mean", image) == pytest.approx(np.log(0.6 * 2**0.5), abs=2e-4)
    noise = np.sqrt(np.pi / 2) / 6 * 8 * 0.6
    assert statistic("noise_log", image) == pytest.approx(np.log(noise), abs=2e-4)


def test_a_ramp_has_a_gradient_but_neither_laplacian_nor_noise():
    image = grey(RAMP)
    assert statistic("gradient_log_mean", image) == pytest.approx(
        np.log(np.hypot(0.1, 0.06) + 1e-4), abs=1e-4
    )
    assert statistic("laplacian_log_variance", image) == pytest.approx(np.log(1e-8), abs=1e-3)
    assert statistic("noise_log", image) == pytest.approx(np.log(1e-4), abs=1e-2)


def test_noise_is_estimated():
    luma = 0.5 + 0.05 * torch.randn(200, 200, generator=torch.Generator().manual_seed(0))
    assert np.exp(statistic("noise_log", grey(luma.clamp(0, 1)))) == pytest.approx(0.05, rel=0.05)


def test_colour_by_hand():
    assert statistic("colourfulness", grey(CHECKERBOARD)) == pytest.approx(0, abs=1e-4)
    assert statistic("saturation_mean", grey(CHECKERBOARD)) == pytest.approx(0, abs=1e-6)
    # Flat red: no spread; the means are 255 and 127.5.
    assert statistic("colourfulness", coloured(1, 0, 0)) == pytest.approx(0.3 * 255 * 1.25**0.5)
    assert statistic("saturation_mean", coloured(0.8, 0.2, 0.4)) == pytest.approx(0.75)
    assert statistic("luma_mean", coloured(0, 1, 0)) == pytest.approx(0.587)


def test_clipped_fractions():
    luma = torch.full((4, 4), 0.5)
    luma[0] = 0
    luma[1, :2] = 1
    assert statistic("dark_fraction", grey(luma)) == 0.25
    assert statistic("bright_fraction", grey(luma)) == 0.125


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_finite_on_a_constant_photograph(level):
    assert np.isfinite(image_statistics(torch.full((3, 5, 9), level))).all()


def test_order_of_the_pixels_changes_only_what_it_should():
    image = torch.rand(3, 32, 40, generator=torch.Generator().manual_seed(0)) ** 2
    smooth = image.flatten(1)[:, image.sum(0).flatten().argsort()].reshape(image.shape)
    before, after = image_statistics(image)[0], image_statistics(smooth)[0]
    for name, old, new in zip(STATISTICS, before, after, strict=True):
        if name in ("laplacian_log_variance", "gradient_log_mean", "noise_log"):
            assert new < old
        else:
            assert new == pytest.approx(old, abs=1e-4)


def test_batch_single_and_uint8_alike():
    batch = torch.randint(
        0, 256, (3, 3, 20, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    one_by_one = np.concatenate([image_statistics(image) for image in batch])
    assert image_statistics(batch).shape == (3, len(STATISTICS))
    assert image_statistics(batch) == pytest.approx(one_by_one, abs=1e-5)
    assert image_statistics(batch.float() / 255) == pytest.approx(one_by_one, abs=1e-5)
    assert image_statistics(batch.numpy()) == pytest.approx(one_by_one, abs=1e-5)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(1, 8, 8), "shape"),
        (torch.zeros(3, 2, 8), "at least 3"),
        (torch.full((3, 8, 8), 128.0), r"\[128, 128\]; give floats in \[0, 1\]"),
        (torch.full((3, 8, 8), torch.nan), "nan"),
    ],
)
def test_bad_images_are_refused(image, message):
    with pytest.raises(LabError, match=message):
        image_statistics(image)


def test_dataset_statistics_keep_the_order_and_refuse_an_empty_dataset():
    photographs = NoiseImages(6, 0)
    features, mos = dataset_statistics(photographs, workers=3)
    assert mos == pytest.approx(5 - 20 * photographs.strength)
    for index, row in enumerate(features):
        assert row == pytest.approx(image_statistics(photographs[index]["image"])[0])
    with pytest.raises(LabError, match="empty"):
        dataset_statistics(NoiseImages(0, 0))


@pytest.mark.parametrize(
    ("pixel", "dark", "bright"),
    [((2, 0, 43), 0, 0), ((13, 1, 9), 0, 0), ((242, 254, 246), 0, 1), ((253, 255, 212), 0, 1)],
)
def test_luma_half_way_between_levels_goes_up_whatever_the_batch(pixel, dark, bright):
    # 0.299 r + 0.587 g + 0.114 b is 5.5 or 249.5, to the last digit.
    image = torch.tensor(pixel, dtype=torch.uint8)[:, None, None].expand(3, 7, 9)
    for images in (image, image.expand(1, 3, 7, 9), image.expand(5, 3, 7, 9)):
        values = image_statistics(images)
        assert (values[:, STATISTICS.index("dark_fraction")] == dark).all()
        assert (values[:, STATISTICS.index("bright_fraction")] == bright).all()
