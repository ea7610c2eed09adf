"""Ranking loss between an image, a mildly distorted copy and a more strongly distorted one.

Scores of different images hold little information on the effect of a distortion on one image; that
a distorted copy is worse than its original is known without ratings.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from ..datasets.distortion_families import draw_family_distortion, synthetic_image

# By how much a score is to fall, in MOS in [0,1] a unit of strength.
_MARGIN = 0.12
# How softly the loss bends around that, and what divides it to be of the squared error's order.
_SOFTNESS, _UNIT = 0.02, 0.1
# What shows nothing is to score no more than this, and what that weighs.
_NOTHING, _NOTHING_WEIGHT = 0.1, 4.0
_MILD, _STRONGER = (0.08, 0.5), (0.25, 0.55)


class Copies(NamedTuple):
    """Two copies of each of c photographs, and a picture that shows nothing.

    pixels: (2 c + 1, 3, s, s) uint8: all mild ones, all strong ones, the picture. gaps: (2, c)
    float32, how much stronger each is damaged than what it is compared with.
    """

    pixels: torch.Tensor
    gaps: torch.Tensor


def ranking_copies(pixels: torch.Tensor, seed: int) -> Copies:
    """Copies of photographs (c, 3, s, s) uint8, drawn by ``seed``; c may be 0."""
    rng = np.random.default_rng(seed)
    mild, strong, gaps = [], [], []
    for photograph in pixels.permute(0, 2, 3, 1).cpu().numpy():
        damage = draw_family_distortion(rng)
        less = rng.uniform(*_MILD)
        more = min(1.0, less + rng.uniform(*_STRONGER))
        mild.append(damage.apply(photograph, less))
        strong.append(damage.apply(photograph, more))
        gaps.append((less, more - less))
    copies = np.stack([*mild, *strong, synthetic_image(pixels.shape[-1], rng)])
    return Copies(
        torch.from_numpy(copies).permute(0, 3, 1, 2).contiguous(),
        torch.tensor(gaps, dtype=torch.float32).reshape(-1, 2).T.contiguous(),
    )


def ranking_loss(score: torch.Tensor, copies: torch.Tensor, gaps: torch.Tensor) -> torch.Tensor:
    """How far the scores are from falling with the damage, and what shows nothing from the bottom.

    A comparison costs a softened hinge on 0.12 times the gap in strength.

    Args:
        score: (c,) of the photographs. copies: (2 c + 1,) of ``Copies.pixels``. gaps: as there.

    Returns:
        A number, 0 where every score falls by much more than its margin.
    """
    mild, strong, nothing = copies.split([len(score), len(score), 1])
    falls = torch.stack([score - mild, mild - strong])
    short = _MARGIN * gaps - falls
    order = _SOFTNESS / _UNIT * F.softplus(short / _SOFTNESS).mean() if len(score) else 0.0
    return order + _NOTHING_WEIGHT * F.relu(nothing - _NOTHING).square().mean()
