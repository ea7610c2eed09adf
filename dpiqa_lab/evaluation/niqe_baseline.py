"""NIQE (Mittal, Soundararajan and Bovik, 2013): naturalness without training scores.

BRISQUE statistics of patches are modelled by one multivariate Gaussian for pristine images and one
for the image under test; the distance between them measures distortion.
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

# Published: minimum sharpness of pristine patches, relative to the sharpest of their image. For
# images under test all patches are used.
_SHARP = 0.75


class Gaussian(NamedTuple):
    """mean (k,) and covariance (k, k) of statistics."""

    mean: np.ndarray
    covariance: np.ndarray


def niqe(
    train: Sequence,
    val: Sequence,  # noqa: ARG001 - baselines share one signature
    test: Sequence,
    patch: int = 96,
    pristine: float = 0.1,
    workers: int = 4,
) -> dict[str, np.ndarray | int]:
    """``predictions`` (n,) for test: minus the distance from pristine statistics, higher is better.

    Pristine are the fraction ``pristine`` of train with the highest MOS, ``photographs`` many;
    val is not used. Predictions are not on a MOS scale. Published: ``patch`` of 96 pixels and 125
    separate pristine images.

    Raises:
        LabError: an empty dataset, an odd ``patch``, or an image smaller than a patch.
    """
    if patch < 16 or patch % 2:
        raise LabError(f"patch must be an even number of 16 pixels and more, got {patch}.")
    mos = mos_of(train)
    best = np.argsort(-mos, kind="stable")[: max(1, round(pristine * len(mos)))]
    natural = each_photograph(
        train, lambda item: patch_statistics(item["image"], patch, _SHARP), workers, best.tolist()
    )
    model = fit_gaussian(np.concatenate(natural))

    def naturalness_distance(item: dict) -> float:
        return distance(model, fit_gaussian(patch_statistics(item["image"], patch)))

    distances = each_photograph(test, naturalness_distance, workers)
    return {"predictions": -np.array(distances), "photographs": len(best)}


@torch.no_grad()
def patch_statistics(image: torch.Tensor, patch: int, sharp: float = 0.0) -> np.ndarray:
    """Naturalness statistics (n, 36) of an image's non-overlapping patches.

    Args:
        image: as for `image_statistics`; an incomplete right or lower margin is ignored.
        sharp: minimum local deviation, relative to the sharpest patch.

    Raises:
        LabError: the image is smaller than a patch.
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
    chosen = sharpness >= sharp * sharpness.max()
    return torch.cat(scales, 1)[chosen].double().cpu().numpy()


def fit_gaussian(statistics: np.ndarray) -> Gaussian:
    """The Gaussian of statistics (n, k); of a single row the covariance is 0."""
    n, k = statistics.shape
    covariance = np.cov(statistics, rowvar=False).reshape(k, k) if n > 1 else np.zeros((k, k))
    return Gaussian(statistics.mean(0), covariance)


def distance(a: Gaussian, b: Gaussian) -> float:
    """sqrt(d' S^-1 d), d the difference of the means, S the mean of the covariances.

    The inverse is the pseudo-inverse: constant statistics are ignored.
    """
    gap = a.mean - b.mean
    inverse = np.linalg.pinv((a.covariance + b.covariance) / 2, hermitian=True)
    return float(np.sqrt(max(0.0, gap @ inverse @ gap)))


def _patches(maps: torch.Tensor, side: int) -> torch.Tensor:
    """(1, 1, h, w) to (n, side, side), in reading order."""
    columns = F.unfold(maps, side, stride=side)
    return columns[0].T.reshape(-1, side, side)
