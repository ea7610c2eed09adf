"""EfficientNet's convolutional trunk (Tan and Le 2019), with torchvision's names and padding.

Weights in torchvision's layout fit without a change (``features.0.0.weight`` and so on). Padding is
even on both sides, (k-1)//2: TensorFlow's uneven one at stride 2, which transformers keeps, gives
other numbers from the same weights.
"""

import math
from functools import partial

import torch
from torch import nn

from ..core.errors import unknown

# Expansion, kernel, stride, channels and repeats of the stages of B0 (table 1 of the paper).
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_STEM = 32
# What the variants multiply the channels and the repeats by.
VARIANTS = {
    "efficientnet_b0": (1.0, 1.0),
    "efficientnet_b1": (1.0, 1.1),
    "efficientnet_b2": (1.1, 1.2),
    "efficientnet_b3": (1.2, 1.4),
    "efficientnet_b4": (1.4, 1.8),
    "efficientnet_b5": (1.6, 2.2),
    "efficientnet_b6": (1.8, 2.6),
    "efficientnet_b7": (2.0, 3.1),
    # None of the paper's: 0.6 M parameters, for small sets and slow machines.
    "efficientnet_tiny": (0.4, 0.6),
}
# torchvision's weights of these three came from TensorFlow, whose batch norm has other constants.
_TENSORFLOW = ("efficientnet_b5", "efficientnet_b6", "efficientnet_b7")


class EfficientNet(nn.Module):
    """The trunk alone: images (b, 3, h, w) to features (b, ``channels``, h/32, w/32).

    Args:
        variant: "efficientnet_b0" (1,280 channels, 4.0 M parameters) to "efficientnet_b7" (2,560
            channels, 63.8 M), or "efficientnet_tiny" (512 channels, 0.6 M).
        stochastic_depth: share of photographs that skip the last block in training; it falls to 0
            at the first (Huang et al. 2016). Without effect in evaluation.

    Raises:
        LabError: an unknown variant.
    """

    def __init__(self, variant: str = "efficientnet_b0", stochastic_depth: float = 0.2):
        super().__init__()
        if variant not in VARIANTS:
            raise unknown("trunk", variant, VARIANTS)
        width, depth = VARIANTS[variant]
        constants = {"eps": 1e-3, "momentum": 0.01} if variant in _TENSORFLOW else {}
        norm = partial(nn.BatchNorm2d, **constants)
        repeats = [math.ceil(n * depth) for *_, n in _STAGES]
        channels = _widen(_STEM, width)
        stages = [_convolution(3, channels, 3, 2, norm=norm)]
        done = 0
        for (expand, kernel, stride, out, _), n in zip(_STAGES, repeats, strict=True):
            blocks = []
            for i in range(n):
                drop = stochastic_depth * (done + i) / sum(repeats)
                blocks.append(
                    _Block(
                        channels, _widen(out, width), expand, kernel, stride if i == 0 else 1,
                        drop, norm,
                    )
                )  # fmt: skip
                channels = _widen(out, width)
            stages.append(nn.Sequential(*blocks))
            done += n
        self.variant = variant
        self.channels = 4 * channels
        self.features = nn.Sequential(*stages, _convolution(channels, self.channels, 1, norm=norm))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.features(images)


class _Block(nn.Module):
    """Inverted bottleneck: expand, convolve each channel, weigh the channels, project."""

    def __init__(self, inputs: int, outputs: int, expand: int, kernel: int, stride: int,
                 drop: float, norm):  # fmt: skip
        super().__init__()
        hidden = inputs * expand
        widen = [_convolution(inputs, hidden, 1, norm=norm)] if expand > 1 else []
        self.block = nn.Sequential(
            *widen,
            _convolution(hidden, hidden, kernel, stride, groups=hidden, norm=norm),
            _ChannelGate(hidden, max(1, inputs // 4)),
            _convolution(hidden, outputs, 1, norm=norm, activation=False),
        )
        self.residual = stride == 1 and inputs == outputs
        self.drop = drop

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.block(x)
        if not self.residual:
            return y
        if self.training and self.drop:
            kept = torch.rand(len(y), 1, 1, 1, device=y.device) >= self.drop
            y = y * (kept / (1 - self.drop)).to(y.dtype)
        return x + y


class _ChannelGate(nn.Module):
    """Squeeze and excitation with biases, by 1x1 convolutions."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = nn.functional.silu(self.fc1(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.fc2(hidden))


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, *, norm,
    activation: bool = True,
) -> nn.Sequential:  # fmt: skip
    layers = [
        nn.Conv2d(
            inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False
        ),
        norm(outputs),
    ]  # fmt: skip
    return nn.Sequential(*layers, *([nn.SiLU()] if activation else []))


def _widen(channels: int, by: float) -> int:
    """``channels * by`` to the nearest multiple of 8, at least 90% of it."""
    nearest = max(8, int(channels * by + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels * by else nearest + 8
