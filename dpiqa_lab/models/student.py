"""The student: a small network that learns the teacher's feature map and the scores."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..core.device import Compute
from ..core.errors import LabError, unknown
from ..nn.compiling import fuse_norms
from .image_scorer import ImageScorer, ModelOutput
from .pooled_regressor import PooledHead
from .quality_feature_decoder import MAP_CHANNELS, MAP_SIZE, Regressor
from .stage_head import STAGES, STUDENT_HEADS, StageHead
from .trainable import Trainable
from .trunks import find_trunk, normalised, stage_channels_of, trunk_stages

_SMALLEST = 32  # pixels: one position of the trunk's features


class Student(ImageScorer, Trainable):
    """DP-IQA's student around any trunk.

    Args:
        trunk: a name of ``models.trunks``, such as "efficientnet_b7" (the paper's: 81 M parameters
            in all) or "efficientnet_tiny".
        image_size: side that ``score`` squashes photographs to, in pixels.
        width: of the regressor's hidden layers; 512 as published (17 M parameters of any trunk's
            student with the head "flat").
        head: "flat", the published one, reads the score from the map's every position; "pooled"
            from mean and deviation over positions of the trunk's features and of the map, with a
            few thousand parameters in place of millions; "stages" in a line from those of all the
            trunk's stages, for a trunk that is pretrained.
        normalise: take the pixels' mean and deviation that the trunk's published weights expect;
            the paper's student sees [0,1] as it is.
        statistics: number of hand-made statistics that a pooled head predicts beside the score.

    Raises:
        LabError: an unknown trunk or head, or an impossible size.
    """

    def __init__(
        self,
        trunk: str = "efficientnet_b7",
        image_size: int = 512,
        width: int = 512,
        head: str = "flat",
        normalise: bool = False,
        statistics: int = 0,
    ) -> None:
        super().__init__()
        if image_size < _SMALLEST:
            raise LabError(f"image_size must be at least {_SMALLEST} pixels, got {image_size!r}.")
        if head not in STUDENT_HEADS:
            raise unknown("head", head, STUDENT_HEADS)
        kind = find_trunk(trunk)
        self.trunk_name = trunk
        self.image_size = image_size
        self.head = head
        # No buffer: a checkpoint holds only what is trained.
        self.pixels = kind.pixels if normalise else None
        self.frozen_norms = False
        self.trunk: Any = kind.build()  # see ``trunks`` for its attributes
        stages = stage_channels_of(self.trunk)
        channels = stages[-1] if head == STAGES else self.trunk.channels
        self.to_map = nn.ConvTranspose2d(
            channels, MAP_CHANNELS, 3, stride=2, padding=1, output_padding=1
        )
        self.regressor: StageHead | PooledHead | Regressor
        if head == STAGES:
            self.regressor = StageHead(sum(stages))
        elif head == "pooled":
            self.regressor = PooledHead(channels + MAP_CHANNELS, width, 1 + statistics)
        else:
            self.regressor = Regressor(width)

    def forward(self, images: torch.Tensor) -> ModelOutput:
        """Score and feature map of images (b, 3, h, w) in [0,1]."""
        images = normalised(images, self.pixels)
        if self.head == STAGES:
            stages = trunk_stages(self.trunk, images)
            return ModelOutput(self.regressor(*stages)[:, 0], self._map(stages[-1]))
        features = self.trunk(images)
        feature_map = self._map(features)
        if self.head == "pooled":
            outputs = self.regressor(features, feature_map)
            return ModelOutput(outputs[:, 0], feature_map, outputs[:, 1:])
        return ModelOutput(self.regressor(feature_map), feature_map)

    def _map(self, features: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.to_map(features))
        return F.interpolate(x, (MAP_SIZE, MAP_SIZE), mode="nearest")

    @contextlib.contextmanager
    def evaluation(self, compute: Compute) -> Iterator[None]:
        """See ``ImageScorer.evaluation``."""
        with super().evaluation(compute), fuse_norms(self.trunk):
            yield

    def freeze(self, norms: bool, stages: int) -> None:
        """Exclude parts of a pretrained trunk from training.

        Args:
            norms: whether its batch norms use the running statistics that they have, and keep them.
            stages: number of an EfficientNet's first parts, stem included, that are not trained.

        Raises:
            LabError: the trunk has not so many parts.
        """
        self.frozen_norms = norms
        parts = getattr(self.trunk, "features", ())
        if stages > len(parts):
            raise LabError(
                f"frozen_stages must be at most {len(parts)}, the parts of the trunk "
                f"{self.trunk_name!r} that can be left as they are; got {stages}."
            )
        for part in parts[:stages]:
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> "Student":
        """See ``nn.Module``; frozen batch norms stay in evaluation mode."""
        super().train(mode)
        if self.frozen_norms:
            for layer in self.trunk.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eval()
        return self

    def parameter_counts(self) -> dict[str, int]:
        """Parameters of each part."""
        parts = {"trunk": self.trunk, "to_map": self.to_map, "regressor": self.regressor}
        return {k: sum(p.numel() for p in m.parameters()) for k, m in parts.items()}
