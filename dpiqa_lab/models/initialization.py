"""Data-dependent initialization: untrained layers fitted to real images.

With torch's default initialisation each layer of the adapter and the decoder reduces the variation
between images. Around an untrained backbone the score's deviation was below a thousandth of its
mean, half of the feature map's channels were dead, and 160 steps learnt nothing. Here each layer's
weights are rescaled and shifted once, to zero mean and unit deviation of every output channel over
a batch of train images (layer-sequential unit variance, Mishkin and Matas 2016), and the last layer
is fitted. The architecture stays as published.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from .image_adapter import ImageAdapter

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

# Deviation of the adapter's first outputs: less than that of the tiny U-Net's states (0.5 to 0.9),
# which they are added to.
QUIET = 0.5
# ITU-R BT.601's luma and its two colour differences, of red, green and blue.
_COLOURS = ((0.299, 0.587, 0.114), (-0.169, -0.331, 0.5), (0.5, -0.419, -0.081))


@torch.no_grad()
def standardise_layers(module: nn.Module, run: Callable[[], object]) -> None:
    """Rescale every convolution and linear layer with a bias in ``module``, in place.

    Args:
        run: passes 16 or more photographs through the module, once.
    """
    layers = [
        layer
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None
    ]
    handles = [layer.register_forward_hook(_standardise) for layer in layers]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def init_from_frequencies(
    adapter: ImageAdapter, images: torch.Tensor, deviation: float = QUIET
) -> None:
    """Initialise an image adapter's first layer as a whitened cosine transform of blocks.

    Each of its outputs is one frequency of a block (8x8 pixels at SD 1.5) of luma or chroma, scaled
    to ``deviation`` over ``images`` (n, 3, h, w) in [0,1]; the first layer of the first
    residual block starts by rectifying them, as sums of magnitudes by frequency indicate blur,
    noise and compression. The finest frequencies hold a thousandth of an image's variance: with
    torch's initialisation the adapter hardly responds to these.
    """
    body: Any = adapter.body
    conv, block = adapter.conv_in, body[0].resnets[0].block1
    assert conv.bias is not None
    channels, size = len(conv.weight), adapter.unshuffle.downscale_factor
    filters = _frequencies(channels, size)
    conv.weight.zero_()
    conv.bias.zero_()
    conv.weight[: len(filters), :, 1, 1] = filters.to(conv.weight)
    seen = conv(adapter.unshuffle(images))
    scale = deviation / seen.std((0, 2, 3)).clamp(min=1e-6)
    conv.weight.mul_(scale.view(-1, 1, 1, 1))
    conv.bias.sub_(seen.mean((0, 2, 3)) * scale)
    block.weight.mul_(0.1)
    block.weight[:, :, 1, 1] += torch.eye(channels).to(block.weight)
    block.bias.zero_()


def _frequencies(channels: int, size: int) -> torch.Tensor:
    """Up to ``channels`` of the 3 size^2 functions (n, 3 size^2), three quarters of them of luma.

    In the order of pixel unshuffling: colours first, then rows, then columns of a block.
    """
    k = np.arange(size)
    waves = np.cos(np.pi * (2 * k + 1) * k[:, None] / (2 * size))
    order = sorted(((a, b) for a in k for b in k), key=lambda ab: (sum(ab), ab))
    luma = min(size**2, 3 * channels // 4)
    chroma = min(size**2, (channels - luma) // 2)
    found = []
    for colour, count in zip(_COLOURS, (luma, chroma, chroma), strict=True):
        for i in np.linspace(0, size**2 - 1, count).round().astype(int):
            a, b = order[i]
            found.append(np.einsum("c,y,x->cyx", colour, waves[a], waves[b]).ravel())
    return torch.from_numpy(np.array(found))


@torch.no_grad()
def init_from_ridge(last: nn.Linear, ridge: "Pipeline") -> None:
    """Initialise the last layer as a regression from its last inputs; other weights are 0.

    Fine-tuning from a fitted head disturbs the features under it less than from a random one, and
    carries over better to photographs unlike those trained on (Kumar et al. 2022).
    """
    scaler, line = ridge.named_steps.values()
    weight = line.coef_ / scaler.scale_
    last.weight.zero_()
    last.weight[:, -len(weight) :] = torch.from_numpy(weight)
    last.bias.fill_(line.intercept_ - weight @ scaler.mean_)


def _standardise(
    layer: nn.Conv2d | nn.Linear, _inputs: object, output: torch.Tensor
) -> torch.Tensor:
    over = [0, *range(2, output.ndim)]
    mean = output.mean(over)
    scale = 1 / output.std(over).clamp(min=1e-6)
    assert layer.bias is not None
    layer.weight.mul_(scale.view(-1, *[1] * (layer.weight.ndim - 1)))
    layer.bias.sub_(mean).mul_(scale)
    shape = (1, -1, *[1] * (output.ndim - 2))
    return (output - mean.view(shape)) * scale.view(shape)
