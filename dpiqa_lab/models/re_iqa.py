"""Re-IQA (arXiv 2304.00451): pooled features of encoders trained without scores."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from ..core.errors import LabError
from ..core.pickles import read_state_dict
from ..datasets.images import half_size
from .resnet import ResNet, imagenet_normalised
from .trainable import Trainable


class QualityEncoder(Trainable):
    """A ResNet, average-pooled: images (b, 3, h, w) in [0,1] to features (b, ``width``).

    Args:
        trunk: of ``resnet.VARIANTS``; "resnet50" as released, of width 2048.
        normalise: by ImageNet's mean and deviation, as the content encoder's input; the quality
            encoder's is not.
    """

    def __init__(self, trunk: str = "resnet50", normalise: bool = False) -> None:
        super().__init__()
        self.trunk_name = trunk
        self.trunk = ResNet(trunk)
        self.normalise = normalise
        self.width = self.trunk.channels[-1]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See the class."""
        images = imagenet_normalised(images) if self.normalise else images
        return self.trunk(images)[-1].mean((2, 3))


class ReIqa(nn.Module):
    """Features (b, ``width``) of one or more encoders at full and at half size, for a linear model.

    ``width`` is 2 x 2 x 2048 = 8,192 with the two that the authors released.
    """

    def __init__(self, encoders: Sequence[QualityEncoder]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.width = 2 * sum(encoder.width for encoder in encoders)

    def settings(self) -> dict:
        """Everything beside the weights that changes features, see ``ImageScorer.settings``."""
        return {"encoders": [[e.trunk_name, e.normalise] for e in self.encoders]}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Of images (b, 3, h, w) in [0,1]: each encoder's at full, then at half size."""
        sizes = (images, half_size(images))
        return torch.cat([encoder(x) for encoder in self.encoders for x in sizes], 1)


def load_re_iqa(quality: Path | str | None = None, content: Path | str | None = None) -> ReIqa:
    """The authors' encoders from their checkpoints, one or both; nothing in these is run.

    Raises:
        LabError: neither is given, or see ``load_encoder``.
    """
    offered = ((quality, False), (content, True))
    given = [(path, normalise) for path, normalise in offered if path is not None]
    if not given:
        raise LabError("give quality, content or both: checkpoints of Re-IQA's authors.")
    return ReIqa([load_encoder(path, normalise) for path, normalise in given]).eval()


def load_encoder(path: Path | str, normalise: bool) -> QualityEncoder:
    """An encoder as released: under ``model``, names ``module.encoder.…``; its head is left.

    Raises:
        LabError: an unreadable file, or one that holds no ResNet-50 under these names.
    """
    state = read_state_dict(path)
    prefix = "encoder."
    found = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if not found:
        raise LabError(f"{path}: none of Re-IQA's checkpoints: no tensor is named encoder.…")
    encoder = QualityEncoder("resnet50", normalise)
    encoder.trunk.load_torchvision(found, path)
    return encoder.eval()
