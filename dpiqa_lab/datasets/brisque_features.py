"""BRISQUE's naturalness statistics (Mittal et al., 2012) of natural images.

Luma, less its local mean and divided by its local deviation, is nearly Gaussian in undistorted
photographs. Thirty-six parameters of the distributions fitted to these values, and to products of
neighbours, measure the deviation from that.
"""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import gamma

from .image_statistics import luma_of
from .images import half_size

# Parameters per scale: shape and variance, then shape, mean, left and right variance of products
# with the right, the lower and both diagonal neighbours. Two scales, full and half size.
FEATURES = 36
_SIDE, _SIGMA = 7, 7 / 6
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
_SHAPES = np.arange(0.2, 10.001, 0.001)
# Both fits match this ratio, E|x|^2 / E[x^2], which rises with the shape.
_RATIOS = gamma(2 / _SHAPES) ** 2 / (gamma(1 / _SHAPES) * gamma(3 / _SHAPES))
_TINY = 1e-12


@torch.no_grad()
def naturalness(images: torch.Tensor | np.ndarray) -> np.ndarray:
    """`FEATURES` parameters of RGB images, float64 (b, 36), or (1, 36) for one.

    ``images`` as for ``image_statistics``, with sides of at least 16 pixels.
    """
    luma = luma_of(images)[:, None] * 255
    scales = [of_normalised(normalised(scaled)[:, 0]) for scaled in (luma, half_size(luma))]
    return torch.cat(scales, 1).double().cpu().numpy()


def of_normalised(normal: torch.Tensor) -> torch.Tensor:
    """The parameters of one scale, (b, 18), of `normalised` luma (b, h, w)."""
    height, width = normal.shape[1:]
    columns = generalised_gaussian(normal.flatten(1))
    for down, across in _NEIGHBOURS:
        here = normal[:, : height - down, max(0, -across) : width - max(0, across)]
        there = normal[:, down:, max(0, across) : width + min(0, across)]
        columns += asymmetric_gaussian((here * there).flatten(1))
    return torch.stack(columns, 1)


def normalised(luma: torch.Tensor) -> torch.Tensor:
    """(luma - local mean) / (local deviation + 1) of (b, 1, h, w) in [0, 255]; edges repeated."""
    mean, deviation = local_moments(luma)
    return (luma - mean) / (deviation + 1)


def local_moments(luma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Local mean and deviation (b, 1, h, w) of luma; edges repeated."""
    offsets = torch.arange(_SIDE, dtype=torch.float64) - _SIDE // 2
    window = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    window = (window / window.sum()).to(luma)
    padded = F.pad(luma, [_SIDE // 2] * 4, mode="replicate")

    def local(values: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.conv2d(values, window.view(1, 1, 1, -1)), window.view(1, 1, -1, 1))

    mean = local(padded)
    return mean, (local(padded**2) - mean**2).clamp_min(0).sqrt()


def generalised_gaussian(values: torch.Tensor) -> list[torch.Tensor]:
    """Shape and variance, (b,) each, of the generalised Gaussian with the moments of (b, n)."""
    square = values.square().mean(1)
    ratio = values.abs().mean(1).square() / square.clamp_min(_TINY)
    return [_shape(ratio), square]


def asymmetric_gaussian(values: torch.Tensor) -> list[torch.Tensor]:
    """Shape, mean, left and right variance, (b,) each, of an asymmetric generalised Gaussian."""
    square = values.square()
    left, right = (
        (square * side).sum(1) / side.sum(1).clamp_min(1) for side in (values < 0, values > 0)
    )
    g = (left / right.clamp_min(_TINY)).sqrt()
    ratio = values.abs().mean(1).square() / square.mean(1).clamp_min(_TINY)
    shape = _shape(ratio * (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2)
    inverse = 1 / shape.double()
    one, two, three = (torch.lgamma(k * inverse) for k in (1, 2, 3))
    mean = (right.sqrt() - left.sqrt()) * torch.exp(two - (one + three) / 2).to(values)
    return [shape, mean, left, right]


def _shape(ratio: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.interp(ratio.double().cpu(), _RATIOS, _SHAPES)).to(ratio)
