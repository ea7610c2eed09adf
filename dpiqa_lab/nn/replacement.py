"""Layers replaced by others that share their weights."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

C = TypeVar("C", bound=nn.Conv2d)


def replace_modules(
    network: nn.Module, make: Callable[[nn.Module], nn.Module | None]
) -> list[tuple[nn.Module, str, nn.Module]]:
    """Replace every module within ``network`` for which ``make`` gives another.

    Args:
        make: gives the new module, or ``None`` to leave the one it is given.

    Returns:
        Parent, name and former module of each, by which they can be put back.
    """
    found = [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
    ]
    replaced = []
    for parent, name, child in found:
        if (new := make(child)) is not None:
            setattr(parent, name, new.train(child.training))
            replaced.append((parent, name, child))
    return replaced


def conv_like(kind: type[C], layer: nn.Conv2d) -> C:
    """A ``kind`` of convolution with the settings and the very weights of ``layer``."""
    like: Any = layer  # torch's types of these settings are wider than those it takes
    new = kind(
        like.in_channels, like.out_channels, like.kernel_size, like.stride, like.padding,
        like.dilation, like.groups, like.bias is not None, like.padding_mode, device="meta",
    )  # fmt: skip
    new.weight, new.bias = layer.weight, layer.bias
    return new
