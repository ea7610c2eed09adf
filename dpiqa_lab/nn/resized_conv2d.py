"""Convolutions of resized maps, computed at the original size."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import nn

from .tensor_memo import memoized


class ResizedConv2d(nn.Conv2d):
    """Bicubic resize to (size, size), then a 3x3 convolution padded by zeros.

    From 8x8, 16x16 and 32x32 to 64x64 at SD 1.5's widths this takes 1/17, 1/8 and 0.4 of the time
    on a CPU, see ``conv2d_of_resized``. Unlike torch's resize its backward pass is deterministic on
    a GPU, too.
    """

    def __init__(self, channels: int, width: int, size: int) -> None:
        super().__init__(channels, width, 3, padding=1)
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, channels, h, w) to (b, width, size, size)."""
        height, width = x.shape[-2:]
        rows, columns = (
            resizing(n, self.size, "bicubic", x.device, x.dtype) for n in (height, width)
        )
        if 4 * height * width <= self.size**2:
            return conv2d_of_resized(x, self.weight, self.bias, rows, columns)
        return super().forward(x if height == width == self.size else rows @ x @ columns.T)


def conv2d_of_resized(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    rows: torch.Tensor,
    columns: torch.Tensor,
) -> torch.Tensor:
    """The 3x3 convolution, padded by zeros, of ``rows @ x @ columns.T``.

    Resizing acts on positions and the nine weights of the window on channels, so they commute: the
    channels are mixed first, at few positions, then the nine results are resized, shifted and
    summed. Outputs are equal up to rounding.

    Args:
        x: (b, c, h, w). weight: (o, c, 3, 3). bias: (o,), required.
        rows, columns: (H, h) and (W, w).

    Returns:
        (b, o, H, W), in the channels-last layout.
    """
    assert bias is not None
    height, width = x.shape[-2:]
    if torch.is_grad_enabled():
        mixing = _by_place(weight)
    else:
        mixing = memoized(weight, "by place", lambda: _by_place(weight.detach()))
    mixed = F.linear(x.permute(0, 2, 3, 1).flatten(1, 2), mixing)
    mixed = mixed.unflatten(1, (height, width)).unflatten(3, (3, 3, -1))
    # (b, 3 h, 3 w, o): rows and columns of the window before those of the map. Then as a matrix.
    mixed = mixed.permute(0, 3, 1, 4, 2, 5).flatten(3, 4).flatten(1, 2)
    mixed = (_shifted(rows) @ mixed.flatten(2)).unflatten(2, (3 * width, -1))
    return (_shifted(columns) @ mixed + bias).permute(0, 3, 1, 2)


@lru_cache
def resizing(
    n: int, size: int, mode: str, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """The (size, n) matrix of a resize along one axis, as ``F.interpolate`` does in ``mode``."""
    options = {"align_corners": False} if mode == "bicubic" else {}
    matrix = F.interpolate(torch.eye(n)[None, None], (size, n), mode=mode, **options)
    return matrix[0, 0].to(device, dtype)


def _by_place(weight: torch.Tensor) -> torch.Tensor:
    """(o, c, 3, 3) as (9 o, c): positions of the window, output channels within each."""
    return weight.permute(2, 3, 0, 1).flatten(0, 2)


def _shifted(matrix: torch.Tensor) -> torch.Tensor:
    """(size, n) as (size, 3 n): the inputs of a window's three positions along one axis."""
    return F.pad(matrix, (0, 0, 1, 1)).unfold(0, len(matrix), 1).flatten(0, 1).T
