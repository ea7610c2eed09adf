"""Contrastive learning of distortions without scores: crops distorted alike are partners.

A small version of Re-IQA (arXiv 2304.00451): the comparison is with the rest of the batch, not with
a queue of earlier ones, and the distortions are this lab's.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from ..core.device import Compute
from ..datasets.distortions import draw_distortions
from ..datasets.images import half_size, unit_range
from ..models.re_iqa import QualityEncoder
from ..models.trainable import Trainable
from .loop import Task
from .peer_config import QualityEncoderConfig
from .peer_run import to_images

_PROJECTED = 128
_VALIDATED_ON = 4  # steps' worth of held-out photographs


def info_nce(projected: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """How well each vector's partner is distinguished from all others.

    Args:
        projected: (n, 2, d), of unit length: partners side by side.

    Returns:
        -log of the partner's share in exp(similarity / temperature) over all others of the batch,
        the mean of both directions, and the share of vectors whose partner is the most similar.
    """
    flat = projected.flatten(0, 1)
    similarity = flat @ flat.T / temperature
    similarity = similarity.masked_fill(torch.eye(len(flat), device=flat.device).bool(), -torch.inf)
    partner = torch.arange(len(flat), device=flat.device) ^ 1
    found = (similarity.argmax(1) == partner).float().mean()
    return F.cross_entropy(similarity, partner), found


class Projected(Trainable):
    """A quality encoder and the head that its training needs: images to (b, 128) of unit length."""

    def __init__(self, encoder: QualityEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Sequential(
            nn.Linear(encoder.width, encoder.width),
            nn.ReLU(),
            nn.Linear(encoder.width, _PROJECTED),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return F.normalize(self.head(self.encoder(images)).float(), dim=1)


class DistortedCrops(Dataset):
    """Steps: uint8 (scenes x versions, 2, 3, s, s), pairs of crops of one distorted image.

    A scene's versions differ only in their distortions, so that content does not distinguish
    them. Half of the scenes are at half size. A step follows from the seed and its number alone.

    Args:
        photographs: items (pixels (3, h, w) uint8, ...). steps: how many there are.
        stream: a number that sets these draws apart from others by the same seed.
    """

    def __init__(
        self, photographs: Dataset, config: QualityEncoderConfig, steps: int, stream: int
    ) -> None:
        self.photographs: Any = photographs
        self.config = config
        self.steps = steps
        self.stream = stream

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> torch.Tensor:
        rng = np.random.default_rng([self.config.seed, self.stream, step])
        count = min(self.config.scenes, len(self.photographs))
        rows = rng.choice(len(self.photographs), count, replace=False)
        pairs = [
            pair
            for row in rows
            for pair in distorted_pairs(
                self.photographs[int(row)][0], self.config.crop_size, self.config.versions, rng
            )
        ]
        return torch.stack(pairs)


def distorted_pairs(
    pixels: torch.Tensor, size: int, versions: int, rng: np.random.Generator
) -> list[torch.Tensor]:
    """``versions`` pairs of crops (2, 3, size, size) uint8 of a photograph (3, h, w) uint8.

    A pair is of one version: the first undistorted, the others with one or two distortions. Its
    crops come from one region, of up to twice their side, which all versions share.
    """
    height, width = pixels.shape[1:]
    # Half size needs a part of twice the side to begin with.
    scale = 2 if rng.random() < 0.5 and min(height, width) >= 2 * size else 1
    sides = [min(side, 2 * size * scale) // scale * scale for side in (height, width)]
    y, x = (int(rng.integers(free + 1)) for free in (height - sides[0], width - sides[1]))
    part = unit_range(pixels[:, y : y + sides[0], x : x + sides[1]].permute(1, 2, 0)).numpy()
    pairs = []
    for version in range(versions):
        count = int(rng.integers(1, 3)) if version else 0
        image = torch.from_numpy(draw_distortions(part, count, rng)[0]).permute(2, 0, 1)[None]
        image = half_size(image) if scale == 2 else image
        crops = []
        for _ in range(2):
            y, x = (int(rng.integers(side - size + 1)) for side in image.shape[2:])
            crop = image[0, :, y : y + size, x : x + size]
            crops.append(crop.flip(2) if rng.random() < 0.5 else crop)
        pairs.append(torch.stack(crops).mul(255).round().clamp(0, 255).to(torch.uint8))
    return pairs


class ContrastiveTask(Task):
    """The fit loop's task; the goal is the fraction of held-out crops whose partner is found."""

    goal = "found"

    def __init__(
        self,
        network: Projected,
        train: Dataset,
        val: Dataset,
        config: QualityEncoderConfig,
        compute: Compute,
    ) -> None:
        self.network = network
        self.config = config
        self.compute = compute
        self.train = DistortedCrops(train, config, config.steps, 5)
        self.val = DistortedCrops(val, config, _VALIDATED_ON, 6)

    def batches(self, epoch: int, start: int) -> Iterator[list]:  # noqa: ARG002 - one epoch
        """See ``loop.Task``."""
        steps = Subset(self.train, range(start, len(self.train)))
        for pairs in DataLoader(steps, batch_size=None, num_workers=self.config.workers):
            yield [[pairs]]

    def loss(self, model: nn.Module, batch: Sequence) -> tuple[torch.Tensor, int]:
        """See ``loop.Task``."""
        return self._compare(model, batch[0])[0], len(batch[0])

    def validate(self, model: nn.Module) -> dict[str, float]:
        """See ``loop.Task``; beside the goal the loss, on the same held-out crops every time."""
        seen = [torch.stack(self._compare(model, self.val[i])) for i in range(len(self.val))]
        loss, found = torch.stack(seen).mean(0).tolist()
        return {"found": found, "contrastive": loss}

    def _compare(self, model: nn.Module, pairs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        projected = model(to_images(pairs.flatten(0, 1), self.compute))
        return info_nce(projected.unflatten(0, (-1, 2)), self.config.temperature)
