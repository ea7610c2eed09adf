"""Heads for small datasets: a score from statistics of features over positions."""

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import nn
from torch.nn.utils import skip_init

HEADS = ("flat", "pooled")


def pooled(maps: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Means and logarithms of standard deviations over positions of maps (b, c, h, w), (b, 2 c).

    Quality goes with the ratio of deviations rather than with their difference: on BIQ2021 a ridge
    regression has SRCC 0.67 on val from the tiny teacher's features so, 0.64 from the deviations
    themselves.
    """
    flat = [x.float().flatten(2) for x in maps]
    # Deviations below 0.01 carry no information.
    deviations = [(x.var(2, correction=0) + 1e-4).log() / 2 for x in flat]
    return torch.cat([*(x.mean(2) for x in flat), *deviations], dim=1)


class PooledRegressor(nn.Module):
    """Mean and standard deviation over positions, two hidden layers with ReLU, and a last one.

    The last layer sees the means and deviations too, last, so that it can start as the linear model
    of these ``fitted`` inputs that fits best. (Fitted to the untrained hidden layers too it was
    worse: SRCC 0.665 instead of 0.668 on BIQ2021's val.)

    Args:
        channels: of all the maps together. hidden: width of the hidden layers. outputs: values
            that are read.
    """

    def __init__(self, channels: int, hidden: int, outputs: int = 1) -> None:
        super().__init__()
        self.fc1 = nn.Linear(2 * channels, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden + 2 * channels, outputs)
        self.fitted = 2 * channels

    def forward(self, *maps: torch.Tensor) -> torch.Tensor:
        """Maps (b, c, h, w) of any sizes to (b, outputs)."""
        # As in Regressor: scores that are to be ranked need float32.
        with torch.autocast(maps[0].device.type, enabled=False):
            x = pooled(maps)
            hidden = F.relu(self.fc2(F.relu(self.fc1(x))))
            return self.fc3(torch.cat([hidden, x], dim=1))


class CorrectedHead(nn.Module):
    """Base of heads with features from ``norm`` and a linear ``correction`` of the score.

    The correction, a function of the standardised features, is added to the first output. It is 0
    until ``correct``, and not trained by steps.

    Args:
        features: their number.
    """

    norm: nn.Module
    usual: torch.Tensor
    spread: torch.Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        # Draws no random numbers: the other weights of a seed stay the same.
        self.correction = skip_init(nn.Linear, features, 1).requires_grad_(False)
        self.register_buffer("usual", torch.empty(features))
        self.register_buffer("spread", torch.empty(features))
        self.correct()

    def corrected(self, x: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
        """``outputs`` (b, k) of features ``x`` (b, features), the first one corrected."""
        score = outputs[:, :1] + self.correction((x - self.usual) / self.spread)
        return torch.cat([score, outputs[:, 1:]], dim=1)

    @torch.no_grad()
    def correct(
        self,
        usual: ArrayLike = 0.0,
        spread: ArrayLike = 1.0,
        weight: ArrayLike = 0.0,
        bias: float = 0.0,
    ) -> None:
        """Add weight . (x - usual) / spread + bias to the first output; by default nothing.

        Args:
            usual, spread, weight: (features,), or a number for all of them. bias: a number.
                Standardised so that half precision does little to the sum.
        """
        targets = self.usual, self.spread, self.correction.weight, self.correction.bias
        for target, value in zip(targets, (usual, spread, weight, bias), strict=True):
            target.copy_(torch.as_tensor(value).expand(target.shape))


class PooledHead(CorrectedHead):
    """The same with one hidden layer, for a network that is trained from its first layer on.

    Means and deviations are first normalised per image.
    """

    def __init__(self, channels: int, hidden: int, outputs: int = 1) -> None:
        super().__init__(2 * channels)
        self.norm = nn.GroupNorm(2, 2 * channels)
        self.fc1 = nn.Linear(2 * channels, hidden)
        self.fc2 = nn.Linear(hidden, outputs)

    def forward(self, *maps: torch.Tensor) -> torch.Tensor:
        """Maps (b, c, h, w) of any sizes to (b, outputs)."""
        with torch.autocast(maps[0].device.type, enabled=False):
            x = pooled(maps).unflatten(1, (2, -1))
            # The norm removes what a group shares. Where its values hardly differ, what is left is
            # the sum's rounding, which is another in onnxruntime: small values round less.
            x = self.norm((x - x[:, :, :1]).flatten(1))
            return self.corrected(x, self.fc2(F.relu(self.fc1(x))))
