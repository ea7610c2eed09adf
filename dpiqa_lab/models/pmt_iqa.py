"""PMT-IQA (arXiv 2301.01182): quality as ten classes at first, increasingly as a number."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ..core.errors import LabError
from .image_scorer import ImageScorer
from .resnet import ResNet, imagenet_normalised
from .trainable import Trainable

CLASSES = 10
_LOCAL = (16, 32, 64)  # channels that stages 1 to 3 are reduced to
_GRIDS = (8, 4, 2, 1)  # positions a side that are left of a stage after pooling
_WIDTH = 28  # numbers from each stage
_HIDDEN = 14


class PmtOutput(NamedTuple):
    """score (b,) on the normalised MOS scale; logits (b, 10) of the classes, worst first."""

    score: torch.Tensor
    logits: torch.Tensor


class PmtIqa(ImageScorer, Trainable):
    """A ResNet, a linear layer on each pooled stage, and two heads.

    Images larger than a crop are scored by the mean over four crops, one in the middle of each
    quarter. The published crops are random: scores differ from run to run.

    Args:
        trunk: of ``resnet.VARIANTS``; "resnet50" as published.
        image_size: side that ``score`` squashes photographs to, in pixels.
        crop_size: side of a crop, a multiple of 32; 224 as published, where the pooling is over
            7x7 positions. It is over crop_size/32 squared, so that the layers after it stay.
        weights: of the trunk, see ``ResNet``.

    Raises:
        LabError: an unknown trunk, or impossible sizes.
    """

    def __init__(
        self,
        trunk: str = "resnet50",
        image_size: int = 512,
        crop_size: int = 224,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        if crop_size % 32 or not 32 <= crop_size <= image_size:
            raise LabError(
                f"crop_size must be a multiple of 32 and at most image_size ({image_size}), got "
                f"{crop_size}."
            )
        self.trunk_name = trunk
        self.image_size = image_size
        self.crop_size = crop_size
        self.trunk = ResNet(trunk, weights)
        *early, last = self.trunk.channels
        self.reduce = nn.ModuleList(
            nn.Conv2d(channels, width, 1, bias=False)
            for channels, width in zip(early, _LOCAL, strict=True)
        )
        widths = zip((*_LOCAL, last), _GRIDS, strict=True)
        self.look = nn.ModuleList(nn.Linear(width * grid**2, _WIDTH) for width, grid in widths)
        whole = len(_GRIDS) * _WIDTH
        self.shared = nn.Sequential(
            nn.Linear(whole, whole), nn.LeakyReLU(), nn.Linear(whole, _HIDDEN), nn.LeakyReLU()
        )
        self.to_score = nn.Linear(_HIDDEN, 1)
        self.to_classes = nn.Sequential(
            nn.Linear(_HIDDEN, _HIDDEN), nn.LeakyReLU(), nn.Linear(_HIDDEN, CLASSES)
        )

    def forward(self, images: torch.Tensor) -> PmtOutput:
        """Of images (b, 3, h, w) in [0,1], sides of a crop or more."""
        outputs = [self._score_crops(crop) for crop in four_crops(images, self.crop_size)]
        return PmtOutput(*(torch.stack(part).mean(0) for part in zip(*outputs, strict=True)))

    def _score_crops(self, crops: torch.Tensor) -> PmtOutput:
        stages = list(self.trunk(imagenet_normalised(crops)))
        for i, layer in enumerate(self.reduce):
            stages[i] = layer(stages[i])
        pooled = (F.avg_pool2d(stage, self.crop_size // 32).flatten(1) for stage in stages)
        seen = [look(stage) for look, stage in zip(self.look, pooled, strict=True)]
        hidden = self.shared(torch.cat(seen, 1))
        return PmtOutput(self.to_score(hidden)[:, 0], self.to_classes(hidden))


def four_crops(images: torch.Tensor, size: int) -> list[torch.Tensor]:
    """Crops (b, c, size, size) around the middles of the quarters; one where none other fits."""
    corners = []
    for side in images.shape[2:]:
        places = [round(side * middle - size / 2) for middle in (0.25, 0.75)]
        corners.append(sorted({min(max(place, 0), side - size) for place in places}))
    return [images[:, :, y : y + size, x : x + size] for y in corners[0] for x in corners[1]]


def quality_classes(mos: torch.Tensor) -> torch.Tensor:
    """Class of each mos (b,) in [0,1]: tenths of the scale, 0 the worst."""
    return (mos * CLASSES).floor().long().clamp(0, CLASSES - 1)


def easy_to_hard(
    output: PmtOutput, mos: torch.Tensor, regression: float, mos_scale: float
) -> torch.Tensor:
    """regression x L1 of the score + (1 - regression) x cross-entropy of the class of mos (b,).

    ``mos_scale``: the length of the scale that the L1 is taken on.
    """
    error = mos_scale * F.l1_loss(output.score, mos)
    named = F.cross_entropy(output.logits, quality_classes(mos))
    return regression * error + (1 - regression) * named
