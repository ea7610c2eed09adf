"""Naturalness without scores to learn from, after NIQE (Mittal, Soundararajan and Bovik, 2013).

The statistics of BRISQUE, taken of patches, follow one multivariate Gaussian in photographs that
nothing was done to and another in a damaged one: the distance between the two is the damage.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from ..core.errors import LabError
from ..datasets.brisque_features import local_moments, of_normalised
from ..datasets.dataset_access import mos_of
from ..datasets.image_statistics import each_photograph, luma_of
from ..datasets.images import half_size

# Published: patches at least this sharp, as a share of their photograph's sharpest one, count in
# photographs that the model of naturalness is fitted to. All count in those that are judged.
_SHARP = 0.75


class Gaussian(NamedTuple):
    """mean (k,) and covariance (k, k) of statistics."""

    mean: np.ndarray
    covariance: np.ndarray


def niqe(
    train: Sequence,
    val: Sequence,
    test: Sequence,
    patch: int = 96,
    pristine: float = 0.1,
    workers: int = 4,
) -> dict[str, np.ndarray | int]:
    """``predictions`` (n,) for test: minus the distance from natural statistics, higher is better.

    Natural is what the ``pristine`` share of train with the highest MOS is like: that choice, of
    ``photographs`` many, is all that is asked of the scores, and val is not looked at. The
    predictions are on no MOS scale. Published: ``patch`` 96 pixels, and 125 pristine photographs
    of no dataset.

    Raises:
        LabError: an empty dataset, an odd ``patch``, or a photograph that is smaller.
    """
    if patch < 16 or patch % 2:
        raise LabError(f"patch must be an even number of 16 pixels and more, got {patch}.")
    mos = mos_of(train)
    best = np.argsort(-mos, kind="stable")[: max(1, round(pristine * len(mos)))]
    natural = each_photograph(
        train, lambda item: patch_statistics(item["image"], patch, _SHARP), workers, best
    )
    model = fit_gaussian(np.concatenate(natural))

    def judge(item: dict) -> float:
        return distance(model, fit_gaussian(patch_statistics(item["image"], patch)))

    judged = each_photograph(test, judge, workers)
    return {"predictions": -np.array(judged), "photographs": len(best)}


@torch.no_grad()
def patch_statistics(image: torch.Tensor, patch: int, sharp: float = 0.0) -> np.ndarray:
    """Naturalness statistics (n, 36) of a photograph's patches, without overlap.

    Args:
        image: as `statistics.image_statistics` takes it; what is over at its right and lower edge
            is left out.
        sharp: patches of less local deviation than this share of the sharpest one's are left out.

    Raises:
        LabError: the photograph is smaller than a patch.
    """
    luma = luma_of(image)[:, None] * 255
    height, width = (side // patch * patch for side in luma.shape[2:])
    if not height or not width:
        found = "x".join(map(str, reversed(luma.shape[2:])))
        raise LabError(f"a photograph of {found} pixels is smaller than a patch of {patch}.")
    luma = luma[:1, :, :height, :width]
    scales = []
    for scaled, side in ((luma, patch), (half_size(luma), patch // 2)):
        mean, deviation = local_moments(scaled)
        scales.append(of_normalised(_patches((scaled - mean) / (deviation + 1), side)))
        if scaled is luma:
            sharpness = _patches(deviation, side).mean((1, 2))
    kept = sharpness >= sharp * sharpness.max()
    return torch.cat(scales, 1)[kept].double().cpu().numpy()


def fit_gaussian(statistics: np.ndarray) -> Gaussian:
    """The Gaussian of statistics (n, k); of a single row the covariance is 0."""
    n, k = statistics.shape
    covariance = np.cov(statistics, rowvar=False).reshape(k, k) if n > 1 else np.zeros((k, k))
    return Gaussian(statistics.mean(0), covariance)


def distance(a: Gaussian, b: Gaussian) -> float:
    """sqrt(d' S^-1 d), d the difference of the means, S the mean of the covariances.

    The inverse is the pseudo-inverse: statistics that never differ count for nothing.
    """
    gap = a.mean - b.mean
    inverse = np.linalg.pinv((a.covariance + b.covariance) / 2, hermitian=True)
    return float(np.sqrt(max(0.0, gap @ inverse @ gap)))


def _patches(maps: torch.Tensor, side: int) -> torch.Tensor:
    """(1, 1, h, w) to (n, side, side), in reading order."""
    columns = F.unfold(maps, side, stride=side)
    return columns[0].T.reshape(-1, side, side)
