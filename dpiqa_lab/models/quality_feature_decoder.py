"""Quality feature decoder: from the U-Net's levels to a feature map and a score (section 3.4)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..core.errors import unknown
from ..nn.resized_conv2d import ResizedConv2d
from .pooled_regressor import HEADS, PooledRegressor

MAP_SIZE = 64
MAP_CHANNELS = 8


class SqueezeExcitation(nn.Module):
    """Channel attention (Hu et al. 2018) without biases."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.ReLU(),
            nn.Linear(hidden, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, c, h, w) to (b, c, h, w)."""
        return x * self.fc(x.mean(dim=(2, 3)))[:, :, None, None]


class Regressor(nn.Module):
    """Feature map to score: flatten, then two hidden layers with ReLU. The student has it too.

    The last layer can be initialised by a fit to its ``fitted`` inputs.
    """

    def __init__(self, hidden: int = 512) -> None:
        super().__init__()
        self.fc1 = nn.Linear(MAP_CHANNELS * MAP_SIZE**2, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, 1)
        self.fitted = hidden

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        """(b, 8, 64, 64) to (b,)."""
        # bfloat16's 8 bits are too coarse for scores that are to be ranked.
        with torch.autocast(feature_map.device.type, enabled=False):
            x = F.relu(self.fc1(feature_map.float().flatten(1)))
            return self.fc3(F.relu(self.fc2(x))).squeeze(1)


class QualityFeatureDecoder(nn.Module):
    """Levels resized to 64x64, each a 3x3 convolution and channel attention, fused to 8 channels.

    Args:
        channels: channels of the levels, in the order given to ``forward`` (320, 640, 1280, 1280
            at SD 1.5: 42.93 M parameters).
        width: channels a level after its convolution, 512 as published; the 1x1 convolutions
            narrow it to a quarter, a sixteenth and 8; the regressor's hidden layers are as wide.
        head: "flat", the published one, reads the score from the map's every position; "pooled"
            from mean and deviation over positions of the levels, of the map and of ``others``, for
            small sets.
        others: channels of further maps that a pooled head reads, the image adapter's outputs.
    """

    def __init__(
        self,
        channels: Sequence[int],
        width: int = 512,
        head: str = "flat",
        others: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if head not in HEADS:
            raise unknown("decoder_head", head, HEADS)
        self.head = head
        self.levels = nn.ModuleList(
            nn.Sequential(ResizedConv2d(c, width, MAP_SIZE), SqueezeExcitation(width))
            for c in channels
        )
        self.fuse = nn.Sequential(
            nn.Conv2d(width * len(channels), width, 3, padding=1), SqueezeExcitation(width)
        )
        narrow = [width, max(MAP_CHANNELS, width // 4), max(MAP_CHANNELS, width // 16)]
        self.to_map = nn.Sequential(
            *(
                layer
                for i, o in zip(narrow, [*narrow[1:], MAP_CHANNELS], strict=True)
                for layer in (nn.Conv2d(i, o, 1), nn.ReLU())
            )
        )
        pooled = head == "pooled"
        read = sum(channels) + sum(others) + MAP_CHANNELS
        self.regressor = PooledRegressor(read, width) if pooled else Regressor(width)

    def forward(self, levels: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps (b, c, h, w) of any sizes to score (b,) and feature map (b, 8, 64, 64).

        ``levels`` and then ``others``, where there are any.
        """
        own = levels[: len(self.levels)]
        fitted = [level(x) for level, x in zip(self.levels, own, strict=True)]
        feature_map = self.to_map(self.fuse(torch.cat(fitted, dim=1)))
        if self.head == "pooled":
            return self.regressor(*levels, feature_map)[:, 0], feature_map
        return self.regressor(feature_map), feature_map
