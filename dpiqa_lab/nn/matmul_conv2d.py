"""Convolutions of small maps by large weights, as one matrix product."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import wrap_torch_function

from .replacement import conv_like, replace_modules

# Faster on a CPU, forward and backward together, with at least this many weights (4 MB; no layer of
# the tiny backbone has them) and at most this many positions, summed over the batch.
_WEIGHTS, _POSITIONS = 2**20, 256

Pair = int | Sequence[int]  # one number for both axes, or one each


class SmallMapConv2d(nn.Conv2d):
    """A convolution computed as a matrix product where that is faster: small float32 maps on CPUs.

    oneDNN reorders all weights at every call. With 1,280 channels in and out the matrix product
    takes 0.3 of the time at 8x8 and 0.7 at 16x16, its backward pass 0.55 and 0.9. Outputs are equal
    up to rounding.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, c, h, w) to (b, o, h', w')."""
        return conv2d(x, self.weight, self.bias, self.stride, self.padding)


def use_small_maps(network: nn.Module) -> None:
    """Let every large convolution of ``network`` look for small maps; names and weights stay."""
    replace_modules(
        network,
        lambda layer: (
            conv_like(SmallMapConv2d, layer) if type(layer) is nn.Conv2d and _can(layer) else None
        ),
    )


@wrap_torch_function(lambda x, weight, *_: (x, weight))  # so that Int8 sees it as one layer
def conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
) -> torch.Tensor:
    """``F.conv2d``, by a matrix product where that is faster; pairs for stride and padding."""
    height, width = output_sides(x, weight, stride, padding)
    few = x.ndim == 4 and 0 < len(x) * height * width <= _POSITIONS
    if not (few and exact_on_cpu(x, weight)):
        return F.conv2d(x, weight, bias, stride, padding)
    windows = F.unfold(x, weight.shape[2:], padding=tuple(padding), stride=tuple(stride))
    # The whole batch in one product, so that the weights are read once.
    windows = windows.transpose(0, 1).flatten(1)
    sums = torch.addmm(bias[:, None], weight.flatten(1), windows)
    return sums.view(-1, len(x), height, width).transpose(0, 1)


def output_sides(
    x: torch.Tensor, weight: torch.Tensor, stride: Sequence[int], padding: Sequence[int]
) -> tuple[int, int]:
    """Height and width of a convolution's output; pairs for stride and padding."""
    sizes = zip(x.shape[-2:], weight.shape[2:], stride, padding, strict=True)
    height, width = ((n + 2 * pad - k) // step + 1 for n, k, step, pad in sizes)
    return height, width


def exact_on_cpu(*tensors: torch.Tensor) -> bool:
    """Whether operations on ``tensors`` run on a CPU in float32."""
    return not torch.is_autocast_enabled("cpu") and all(
        t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors
    )


def _can(layer: nn.Conv2d) -> bool:
    return (
        layer.weight.numel() >= _WEIGHTS
        and layer.bias is not None
        and layer.kernel_size == (3, 3)
        and layer.dilation == (1, 1)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )
