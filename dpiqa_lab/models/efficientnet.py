"""EfficientNet's convolutional trunk (Tan and Le 2019), with torchvision's names and padding.

Weights in torchvision's layout fit without a change (``features.0.0.weight`` and so on). Padding is
even on both sides, (k-1)//2: TensorFlow's uneven one at stride 2, which transformers keeps, gives
other numbers from the same weights. The Lite variants, whose weights came from TensorFlow, have the
uneven one.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
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
_LITE_HEAD = 1280


class Variant(NamedTuple):
    """Factors of B0's channels (width) and repeats (depth).

    lite: without channel gates, ReLU6 for SiLU; the stem's and the head's channels and the repeats
    of the first and the last stage stay B0's; padding as in TensorFlow. tensorflow: the batch norms
    have TensorFlow's constants, as the published weights come from there.
    """

    width: float
    depth: float
    lite: bool = False
    tensorflow: bool = False


VARIANTS = {
    "efficientnet_b0": Variant(1.0, 1.0),
    "efficientnet_b1": Variant(1.0, 1.1),
    "efficientnet_b2": Variant(1.1, 1.2),
    "efficientnet_b3": Variant(1.2, 1.4),
    "efficientnet_b4": Variant(1.4, 1.8),
    "efficientnet_b5": Variant(1.6, 2.2, tensorflow=True),
    "efficientnet_b6": Variant(1.8, 2.6, tensorflow=True),
    "efficientnet_b7": Variant(2.0, 3.1, tensorflow=True),
    "efficientnet_lite0": Variant(1.0, 1.0, lite=True, tensorflow=True),
    "efficientnet_lite1": Variant(1.0, 1.1, lite=True, tensorflow=True),
    "efficientnet_lite2": Variant(1.1, 1.2, lite=True, tensorflow=True),
    # None of the paper's: 0.6 M parameters, for small sets and slow machines.
    "efficientnet_tiny": Variant(0.4, 0.6),
}


class EfficientNet(nn.Module):
    """The trunk alone: images (b, 3, h, w) to features (b, ``channels``, h/32, w/32).

    Args:
        variant: "efficientnet_b0" (1,280 channels, 4.0 M parameters) to "efficientnet_b7" (2,560
            channels, 63.8 M), "efficientnet_lite0" (1,280 channels, 3.4 M) to
            "efficientnet_lite2", or "efficientnet_tiny" (512 channels, 0.6 M).
        stochastic_depth: fraction of images that skip the last block in training, decreasing to 0
            at the first (Huang et al. 2016).

    Attributes:
        stage_channels: channels of each of ``stages``.

    Raises:
        LabError: an unknown variant.
    """

    def __init__(self, variant: str = "efficientnet_b0", stochastic_depth: float = 0.2) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise unknown("trunk", variant, VARIANTS)
        width, depth, lite, tensorflow = VARIANTS[variant]
        layer = partial(
            _convolution,
            convolution=_SameConv2d if lite else _EvenConv2d,
            norm=partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01) if tensorflow else nn.BatchNorm2d,
            activation=nn.ReLU6 if lite else nn.SiLU,
        )
        repeats = [math.ceil(n * depth) for *_, n in _STAGES]
        if lite:
            repeats[0], repeats[-1] = _STAGES[0][-1], _STAGES[-1][-1]
        channels = _STEM if lite else _widen(_STEM, width)
        stages = [layer(3, channels, 3, 2)]
        widths = []
        done = 0
        for (expand, kernel, stride, out, _), n in zip(_STAGES, repeats, strict=True):
            blocks = []
            for i in range(n):
                drop = stochastic_depth * (done + i) / sum(repeats)
                blocks.append(
                    _Block(
                        channels, _widen(out, width), expand, kernel, stride if i == 0 else 1,
                        drop, layer, gated=not lite,
                    )
                )  # fmt: skip
                channels = _widen(out, width)
            stages.append(nn.Sequential(*blocks))
            widths.append(channels)
            done += n
        self.variant = variant
        self.channels = _LITE_HEAD if lite else 4 * channels
        self.stage_channels = (*widths, self.channels)
        self.features = nn.Sequential(*stages, layer(channels, self.channels, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.features(images)

    def stages(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Outputs of the seven stages of blocks and of the head, (b, c, h / s, w / s) each.

        The channels c are ``stage_channels``, the strides s 2, 4, 8, 16, 16, 32, 32 and 32; a side
        that a stride does not divide is rounded up.
        """
        head, *others = self.features
        x, outputs = head(images), []
        for stage in others:
            x = stage(x)
            outputs.append(x)
        return tuple(outputs)


class _Block(nn.Module):
    """Inverted bottleneck: expand, convolve each channel, weigh the channels, project."""

    def __init__(self, inputs: int, outputs: int, expand: int, kernel: int, stride: int,
                 drop: float, layer: Callable[..., nn.Module], gated: bool) -> None:  # fmt: skip
        super().__init__()
        hidden = inputs * expand
        widen = [layer(inputs, hidden, 1)] if expand > 1 else []
        gate = [_ChannelGate(hidden, max(1, inputs // 4))] if gated else []
        self.block = nn.Sequential(
            *widen,
            layer(hidden, hidden, kernel, stride, groups=hidden),
            *gate,
            layer(hidden, outputs, 1, activation=None),
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

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = F.silu(self.fc1(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.fc2(hidden))


class _EvenConv2d(nn.Conv2d):
    """A convolution padded by (k - 1) / 2 on all sides, without bias."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> None:
        padding = (kernel - 1) // 2
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)


class _SameConv2d(_EvenConv2d):
    """The same padded as in TensorFlow: no more than ceil(side / stride) outputs need.

    An odd number of rows or columns has one more below or on the right. Only at stride 2 and an
    even side does it differ.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.stride == (1, 1):
            return super().forward(x)
        kernel, stride = self.kernel_size[0], self.stride[0]
        (top, bottom), (left, right) = (
            (more // 2, more - more // 2)
            for more in (max(0, kernel - ((side - 1) % stride + 1)) for side in x.shape[2:])
        )
        padded = F.pad(x, (left, right, top, bottom))
        return F.conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, *,
    convolution: Callable[..., nn.Module], norm: Callable[[int], nn.Module],
    activation: Callable[[], nn.Module] | None,
) -> nn.Sequential:  # fmt: skip
    layers = [convolution(inputs, outputs, kernel, stride, groups), norm(outputs)]
    return nn.Sequential(*layers, *([activation()] if activation else []))


def _widen(channels: int, by: float) -> int:
    """``channels * by`` to the nearest multiple of 8, at least 90% of the product."""
    nearest = max(8, int(channels * by + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels * by else nearest + 8
