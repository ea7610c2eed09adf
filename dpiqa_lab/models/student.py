"""The student: an EfficientNet that learns the teacher's feature map and the scores."""

import torch
import torch.nn.functional as F
from torch import nn

from ..core.errors import LabError
from .efficientnet import EfficientNet
from .quality_feature_decoder import MAP_CHANNELS, MAP_SIZE, Regressor
from .scoring import ModelOutput, Scorer
from .trainable import Trainable

_SMALLEST = 32  # pixels: one position of the trunk's features


class Student(Scorer, Trainable):
    """DP-IQA's student around any EfficientNet.

    Args:
        trunk: "efficientnet_b0" to "efficientnet_b7" (the paper's: 81 M parameters in all).
        image_size: side that ``score`` squashes photographs to, in pixels.
        width: of the regressor's hidden layers; 512 as published (17 M parameters of any trunk's
            student).

    Raises:
        LabError: an unknown trunk, or an impossible size.
    """

    def __init__(self, trunk: str = "efficientnet_b7", image_size: int = 512, width: int = 512):
        super().__init__()
        if image_size < _SMALLEST:
            raise LabError(f"image_size must be at least {_SMALLEST} pixels, got {image_size!r}.")
        self.image_size = image_size
        self.trunk = EfficientNet(trunk)
        self.to_map = nn.ConvTranspose2d(
            self.trunk.channels, MAP_CHANNELS, 3, stride=2, padding=1, output_padding=1
        )
        self.regressor = Regressor(width)

    def forward(self, images: torch.Tensor) -> ModelOutput:
        """Score and feature map of images (b, 3, h, w) in [0,1], not normalised further."""
        x = F.relu(self.to_map(self.trunk(images)))
        feature_map = F.interpolate(x, (MAP_SIZE, MAP_SIZE), mode="nearest")
        return ModelOutput(self.regressor(feature_map), feature_map)

    def trainable_state(self) -> dict[str, torch.Tensor]:
        """All of it: training changes the running statistics of the batch norms too."""
        return dict(self.state_dict())

    def parameter_counts(self) -> dict[str, int]:
        """Parameters of each part."""
        parts = {"trunk": self.trunk, "to_map": self.to_map, "regressor": self.regressor}
        return {k: sum(p.numel() for p in m.parameters()) for k, m in parts.items()}
