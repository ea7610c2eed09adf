"""A head for pretrained trunks: the score in a line from the statistics of all their stages."""

import torch
from torch import nn

from .pooled_regressor import HEADS, CorrectedHead, pooled

STAGES = "stages"
# The student's; what a teacher's decoder may have are ``HEADS``.
STUDENT_HEADS = (*HEADS, STAGES)
# Deviation over photographs that features are divided by at least: one that hardly varies says
# little, and divided by less it would say much of a photograph unlike those it was fitted to.
_LEAST = 1e-3
# Multiples of it beyond which a feature says nothing more. On BIQ2021 it is better so, by 0.006 of
# SRCC in cross-validation, and what is no photograph at all is kept within bounds.
_FURTHEST = 6.0


class Standardised(nn.Module):
    """Features (b, ``num_channels``) less their usual value, in multiples of their spread.

    Within ±6. Until ``standardise`` gives them, 0 and 1, and no bounds.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.num_channels = features
        self.register_buffer("usual", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        # Finite, as everything that a checkpoint holds is to be.
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
    def standardise(self, features) -> None:
        """Let ``norm`` standardise as these features (n, 2 * channels) of photographs vary."""
        features = torch.as_tensor(features)
        self.norm.usual.copy_(features.mean(0))
        self.norm.spread.copy_(features.std(0, correction=0).clamp_min(_LEAST))
        self.norm.furthest.fill_(_FURTHEST)

    @torch.no_grad()
    def start_at(self, weight, bias: float) -> None:
        """Let the score be weight . standardised features + bias; weight (2 * channels,)."""
        self.line.weight.copy_(torch.as_tensor(weight)[None])
        self.line.bias.fill_(bias)
