"""A small trunk initialised as a frequency transform of image blocks."""

import torch
import torch.nn.functional as F
from torch import nn

from .image_adapter import ImageAdapter
from .initialization import init_from_frequencies

_WIDTHS = (48, 96, 128, 128)


class FrequencyTrunk(nn.Module):
    """The tiny teacher's image adapter by itself: 1.0 M parameters.

    Images (b, 3, h, w) to features (b, ``channels``, h/8, w/8): the outputs of its four stages,
    the coarser ones repeated, so that a mean or deviation over positions is that of the stage. It
    sees a photograph's finest detail from its first layer on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stages = ImageAdapter(_WIDTHS)
        self.stage_channels = _WIDTHS
        self.channels = sum(_WIDTHS)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See the class."""
        first, *others = self.stages(images)
        fitted = [F.interpolate(x, first.shape[-2:], mode="nearest") for x in others]
        return torch.cat([first, *fitted], dim=1)

    def fit_start(self, images: torch.Tensor, deviation: float = 1.0) -> None:
        """Fit the first layer to images (n, 3, h, w), see ``init_from_frequencies``."""
        init_from_frequencies(self.stages, images, deviation)
