"""A head for pretrained trunks: a linear function of the statistics of all their stages."""

import torch
from numpy.typing import ArrayLike
from torch import nn

from .pooled_regressor import HEADS, CorrectedHead, pooled

STAGES = "stages"
# The student's; a teacher's decoder has ``HEADS``.
STUDENT_HEADS = (*HEADS, STAGES)
# Lower bound of the deviation over images that features are divided by: nearly constant features
# would dominate the score of unusual images.
_LEAST = 1e-3
# Bound of standardised features: SRCC on BIQ2021 is 0.006 better in cross-validation, and scores of
# images that are no photographs stay within bounds.
_FURTHEST = 6.0


class Standardised(nn.Module):
    """Features (b, ``num_channels``) standardised by their usual value and spread, within ±6.

    Before ``StageHead.standardise`` these are 0 and 1, without bounds.
    """

    usual: torch.Tensor
    spread: torch.Tensor
    furthest: torch.Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.num_channels = features
        self.register_buffer("usual", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        # Finite, as all values of a checkpoint have to be.
        self.register_buffer("furthest", torch.tensor(1e6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return ((x - self.usual) / self.spread).clamp(-self.furthest, self.furthest)


class StageHead(CorrectedHead):
    """A linear function of means and log-deviations, see ``pooled``, standardised.

    It starts at 0; ``fit`` lets it start at the ridge regression of a frozen trunk.

    Args:
        channels: of all the maps together.
    """

    norm: Standardised

    def __init__(self, channels: int) -> None:
        super().__init__(2 * channels)
        self.norm = Standardised(2 * channels)
        self.line = nn.Linear(2 * channels, 1)
        nn.init.zeros_(self.line.weight)
        nn.init.zeros_(self.line.bias)

    def forward(self, *maps: torch.Tensor) -> torch.Tensor:
        """Maps (b, c, h, w) of any sizes to (b, 1)."""
        with torch.autocast(maps[0].device.type, enabled=False):
            x = self.norm(pooled(maps))
            return self.corrected(x, self.line(x))

    @torch.no_grad()
    def standardise(self, features: ArrayLike) -> None:
        """Fit ``norm`` to features (n, 2 * channels) of images."""
        values = torch.as_tensor(features)
        self.norm.usual.copy_(values.mean(0))
        self.norm.spread.copy_(values.std(0, correction=0).clamp_min(_LEAST))
        self.norm.furthest.fill_(_FURTHEST)

    @torch.no_grad()
    def start_at(self, weight: ArrayLike, bias: float) -> None:
        """Set the score to weight . standardised features + bias; weight (2 * channels,)."""
        self.line.weight.copy_(torch.as_tensor(weight)[None])
        self.line.bias.fill_(bias)
