"""The U-Net's upsampling, its convolution computed at the smaller size."""

import torch
from diffusers.models.upsampling import Upsample2D
from torch import nn

from .matmul_conv2d import exact_on_cpu
from .replacement import conv_like, replace_modules
from .resized_conv2d import conv2d_of_resized, resizing


class FoldedUpsample2D(Upsample2D):
    """``Upsample2D`` whose convolution doubles the map itself, on CPUs in float32.

    A quarter of the multiplications: a third of the time or less at SD 1.5's widths, forward and
    backward, and half at the tiny backbone's. On other devices it is diffusers' own.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        output_size: int | None = None,
        *args: object,
        **kwargs: object,
    ) -> torch.Tensor:
        """(b, c, h, w) to (b, o, 2 h, 2 w), or of ``output_size``."""
        if output_size is None and exact_on_cpu(hidden_states):
            assert self.conv is not None
            return self.conv(hidden_states, doubled=True)
        return super().forward(hidden_states, output_size, *args, **kwargs)


class DoublingConv2d(nn.Conv2d):
    """A 3x3 convolution that can double the sides of its input first."""

    def forward(self, x: torch.Tensor, doubled: bool = False) -> torch.Tensor:
        """(b, c, h, w) to (b, o, h, w); ``doubled``: (b, o, 2 h, 2 w), by nearest neighbours."""
        if not doubled:
            return super().forward(x)
        sides = (resizing(n, 2 * n, "nearest-exact", x.device, x.dtype) for n in x.shape[2:])
        assert self.bias is not None
        return conv2d_of_resized(x, self.weight, self.bias, *sides)


def fold_upsampling(unet: nn.Module) -> None:
    """Make every upsampling of ``unet`` a folded one; names, weights and outputs stay."""
    replace_modules(
        unet,
        lambda layer: (
            upsample_like(FoldedUpsample2D, DoublingConv2d, layer)
            if type(layer) is Upsample2D and _can(layer)
            else None
        ),
    )


def upsample_like(kind: type[Upsample2D], conv: type[nn.Conv2d], layer: Upsample2D) -> Upsample2D:
    """A ``kind`` of upsampling around a ``conv`` that has the very weights of ``layer``'s.

    Args:
        layer: nearest neighbours, then a convolution named ``conv``, without a norm.
    """
    with torch.device("meta"):
        new = kind(layer.channels, use_conv=True, out_channels=layer.out_channels)
    assert isinstance(layer.conv, nn.Conv2d)
    new.conv = conv_like(conv, layer.conv)
    return new


def _can(layer: Upsample2D) -> bool:
    """Whether it is Stable Diffusion's: nearest neighbours, then a padded 3x3 convolution."""
    conv = getattr(layer, "conv", None)
    return (
        type(conv) is nn.Conv2d
        and (conv.kernel_size, conv.padding, conv.stride) == ((3, 3), (1, 1), (1, 1))
        and conv.bias is not None
        and layer.norm is None
        and layer.interpolate
    )
