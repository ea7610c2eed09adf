"""A start from which little training suffices: the decoder's layers fitted to real features.

With torch's usual initialisation each layer of the decoder shrinks what differs between photographs
and keeps what they share: around an untrained backbone the score's deviation over photographs is
below a thousandth of its mean, half of the feature map's channels are dead, and hundreds of steps
go by before anything is learnt. Here each layer's weights are rescaled and shifted, once, so that
its output has zero mean and unit deviation in every channel over a batch of train photographs
(layer-sequential unit variance, Mishkin and Matas 2016). The architecture stays as published.
"""

from collections.abc import Sequence

import torch
from torch import nn

from .quality_feature_decoder import QualityFeatureDecoder


@torch.no_grad()
def calibrate_decoder(
    decoder: QualityFeatureDecoder, levels: Sequence[torch.Tensor], mos: torch.Tensor
) -> None:
    """Rescale the layers of ``decoder`` in place, and let the score start near the mean of ``mos``.

    Args:
        levels: what ``decoder`` takes, from 16 or more photographs, (b, c, h, w) each.
        mos: (b,) in [0,1].
    """
    layers = [
        layer
        for layer in decoder.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None
    ]
    handles = [layer.register_forward_hook(_standardise) for layer in layers]
    try:
        decoder(levels)
    finally:
        for handle in handles:
            handle.remove()
    last = decoder.regressor.fc3
    last.weight.mul_(0.1 * mos.std())
    last.bias.copy_(mos.mean())


def _standardise(layer: nn.Module, inputs, output: torch.Tensor) -> torch.Tensor:
    over = [0, *range(2, output.ndim)]
    mean = output.mean(over)
    scale = 1 / output.std(over).clamp(min=1e-6)
    layer.weight.mul_(scale.view(-1, *[1] * (layer.weight.ndim - 1)))
    layer.bias.sub_(mean).mul_(scale)
    shape = (1, -1, *[1] * (output.ndim - 2))
    return (output - mean.view(shape)) * scale.view(shape)
