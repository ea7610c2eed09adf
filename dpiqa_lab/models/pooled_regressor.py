"""Heads for small sets: a score from what features are like on average, not where."""

import torch
import torch.nn.functional as F
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
    # Below 0.01 a deviation says nothing more: a channel that is hardly ever at work is no feature.
    deviations = [(x.var(2, correction=0) + 1e-4).log() / 2 for x in flat]
    return torch.cat([*(x.mean(2) for x in flat), *deviations], dim=1)


class PooledRegressor(nn.Module):
    """Mean and standard deviation over positions, two hidden layers with ReLU, and a last one.

    The last layer sees the means and deviations too, last, so that it can start as the linear model
    of these ``fitted`` inputs that fits best. (With what the hidden layers say before they have
    learnt anything it was worse: SRCC 0.665 on BIQ2021's val for 0.668.)

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
    """Base of heads whose features ``norm`` gives: a linear function of them can join the score.

    ``correction``, a linear function of each feature as deviation from its usual value, is added to
    the first output. It is 0, and not trained by steps, until ``correct``.

    Args:
        features: how many there are.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        # Without drawing weights that are replaced here: a seed gives a head what it always gave.
        self.correction = skip_init(nn.Linear, features, 1).requires_grad_(False)
        self.register_buffer("usual", torch.empty(features))
        self.register_buffer("spread", torch.empty(features))
        self.correct()

    def corrected(self, x: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        """``told`` (b, outputs) of features ``x`` (b, features), the first output corrected."""
        score = told[:, :1] + self.correction((x - self.usual) / self.spread)
        return torch.cat([score, told[:, 1:]], dim=1)

    @torch.no_grad()
    def correct(self, usual=0.0, spread=1.0, weight=0.0, bias=0.0) -> None:
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

    Means and deviations are put on one scale each, photograph by photograph, first.
    """

    def __init__(self, channels: int, hidden: int, outputs: int = 1) -> None:
        super().__init__(2 * channels)
        self.norm = nn.GroupNorm(2, 2 * channels)
        self.fc1 = nn.Linear(2 * channels, hidden)
        self.fc2 = nn.Linear(hidden, outputs)

    def forward(self, *maps: torch.Tensor) -> torch.Tensor:
        """Maps (b, c, h, w) of any sizes to (b, outputs)."""
        with torch.autocast(maps[0].device.type, enabled=False):
            x = self.norm(pooled(maps))
            return self.corrected(x, self.fc2(F.relu(self.fc1(x))))
