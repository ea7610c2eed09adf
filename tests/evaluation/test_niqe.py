import numpy as np
import pytest
import torch

from dpiqa_lab.core.errors import LabError
from dpiqa_lab.datasets.brisque_features import normalised, of_normalised
from dpiqa_lab.datasets.distortions import distort
from dpiqa_lab.datasets.image_statistics import luma_of
from dpiqa_lab.evaluation.niqe_baseline import (
    Gaussian,
    distance,
    fit_gaussian,
    niqe,
    patch_statistics,
)


def test_distance_by_hand():
    one = Gaussian(np.zeros(1), np.array([[1.0]]))
    other = Gaussian(np.array([3.0]), np.array([[3.0]]))
    assert distance(one, other) == pytest.approx(np.sqrt(9 / 2))
    assert distance(one, other) == distance(other, one)
    # Along the first axis 2 deviations apart, along the second 1: sqrt(4 + 1).
    flat = Gaussian(np.zeros(2), np.diag([1.0, 4.0]))
    assert distance(flat, Gaussian(np.array([2.0, 2.0]), flat.covariance)) == pytest.approx(5**0.5)


def test_identical_gaussians_are_at_no_distance_and_a_constant_counts_for_nothing():
    drawn = np.random.default_rng(0).normal(size=(50, 4))
    drawn[:, 3] = 7
    model = fit_gaussian(drawn)
    assert distance(model, model) == 0
    assert distance(model, Gaussian(model.mean + np.eye(4)[3], model.covariance)) == 0


def test_one_row_has_no_covariance():
    assert fit_gaussian(np.array([[1.0, 2.0]])).covariance.tolist() == [[0, 0], [0, 0]]


def picture(seed, size=(100, 72)):
    rng = np.random.default_rng(seed)
    small = torch.from_numpy(rng.random((1, 3, 12, 9), dtype=np.float32))
    smooth = torch.nn.functional.interpolate(small, size, mode="bicubic")[0]
    grain = torch.from_numpy(rng.normal(0, 0.02, (3, *size)).astype(np.float32))
    return (smooth + grain).clamp(0, 1)


def test_patches_are_parts_of_the_whole_normalised_photograph():
    image = picture(0)
    found = patch_statistics(image, 32)
    assert found.shape == (3 * 2, 36)
    whole = normalised(luma_of(image)[:, None, :96, :64] * 255)[:, 0]
    # Reading order: the fourth patch is the second of the second row.
    expected = of_normalised(whole[:, 32:64, 32:64])[0]
    np.testing.assert_allclose(found[3, :18], expected, rtol=1e-4, atol=1e-5)


def test_only_sharp_patches_count_where_asked():
    image = picture(0, (64, 64))
    image[:, :, 32:] = 0.5
    image[:, :32] = 0.5
    assert len(patch_statistics(image, 32)) == 4
    assert len(patch_statistics(image, 32, 0.75)) == 1


def test_damage_is_less_natural_and_no_label_but_the_best_is_used():
    def item(i, kind=None):
        image = picture(i)
        if kind:
            damaged = distort(image.permute(1, 2, 0).numpy(), kind, 0.8, i)
            image = torch.from_numpy(damaged).permute(2, 0, 1)
        return {"image": image, "mos": 0.1 if kind else 0.9, "name": f"{i}"}

    kinds = ("defocus", "noise", "jpeg")
    train = [item(i) for i in range(8)] + [item(i, "noise") for i in range(8)]
    test = [item(20)] + [item(20, kind) for kind in kinds]
    found = niqe(train, [], test, patch=32, pristine=0.5)
    assert found["photographs"] == 8
    assert found["predictions"].argmax() == 0
    assert (found["predictions"] < 0).all()
    # Scores of what is not the best do not matter.
    for i in range(8, 16):
        train[i]["mos"] = i / 100
    assert np.array_equal(niqe(train, [], test, 32, 0.5)["predictions"], found["predictions"])


def test_small_photographs_and_odd_patches_are_refused():
    items = [{"image": picture(0, (40, 80)), "mos": 1.0, "name": "a"}]
    with pytest.raises(LabError, match="80x40 pixels is smaller than a patch of 96"):
        niqe(items, [], items)
    with pytest.raises(LabError, match="even"):
        niqe(items, [], items, patch=33)
