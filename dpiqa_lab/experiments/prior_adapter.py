"""The tiny prior's image adapter, trained without MOS."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from ..core.device import Compute
from ..datasets.distortions import DISTORTIONS, strength_table
from ..datasets.images import unit_range
from ..datasets.prior_views import Views
from ..models.frequency_trunk import FrequencyTrunk
from ..models.initialization import QUIET
from ..models.pooled_regressor import PooledRegressor
from ..models.trainable import Trainable
from ..training.loop import Task
from ..training.statistics_targets import COUNT, view_statistics
from .prior_config import PriorConfig

_BATCH = 32  # views a validation pass
_FITTED = 64  # views that initialise the first layer


class PriorAdapter(Trainable):
    """The adapter and a head for distortions and image statistics; the head is not exported."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = FrequencyTrunk()
        self.head = PooledRegressor(self.trunk.channels, 128, len(DISTORTIONS) + COUNT)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (b, 3, h, w) in [0,1] to distortion strengths, then statistics (b, kinds)."""
        return self.head(self.trunk(images))


class AdapterTask(Task):
    """Squared error of distortion strengths, summed over kinds, and of image statistics.

    The mean error of statistics is weighted by ``adapter_statistics``. The goal is ``named``: the
    fraction of the strengths' variance explained on held-out images; the second metric is that of
    the statistics.
    """

    network: PriorAdapter
    goal = "named"

    def __init__(
        self, network: PriorAdapter, views: Views, config: PriorConfig, compute: Compute
    ) -> None:
        self.network = network
        self.views = views
        self.config = config
        self.compute = compute
        self.strengths = torch.from_numpy(strength_table(views.table["damage"])).float()
        self.statistics = view_statistics(views)
        self.rows = {split: views.positions(split) for split in ("train", "val")}

    def start(self) -> None:
        """See ``loop.Task``."""
        rng = np.random.default_rng([self.config.seed, 4])
        few = rng.choice(self.rows["train"], _FITTED)
        self.network.trunk.fit_start(self._images(few, mirrored=False), QUIET)

    def batches(self, epoch: int, start: int) -> Iterator[list]:  # noqa: ARG002 - interface
        """See ``loop.Task``; a step's views depend only on the seed and its number."""
        for step in range(start, self.config.adapter_steps):
            rng = np.random.default_rng([self.config.seed, 5, step])
            rows = rng.choice(self.rows["train"], self.config.adapter_batch)
            yield [[rows, bool(rng.integers(2))]]

    def loss(self, model: nn.Module, batch: Sequence) -> tuple[torch.Tensor, int]:
        """See ``loop.Task``."""
        rows, mirrored = batch
        damage, statistics = self._errors(model, rows, mirrored)
        weight = self.config.adapter_statistics
        return damage.sum(1).mean() + weight * statistics.mean(), len(rows)

    def names(self, batch: Sequence) -> list[str]:
        """See ``loop.Task``."""
        return list(self.views.table["photograph"].iloc[batch[0]])

    def validate(self, model: nn.Module) -> dict[str, float]:
        """See ``loop.Task``."""
        rows = self.rows["val"]
        parts = np.array_split(rows, max(1, len(rows) // _BATCH))
        with self.compute.autocast():
            errors = [self._errors(model, part, mirrored=False) for part in parts]
        damage, statistics = (torch.cat(part).cpu() for part in zip(*errors, strict=True))
        known = self.strengths[rows], self.statistics[rows]
        # As tensors, which allow division by 0 variance (few undistorted views).
        shares = [
            (1 - error.mean(0).sum() / value.var(0).sum()).item()
            for error, value in zip((damage, statistics), known, strict=True)
        ]
        return dict(zip(("named", "statistics"), shares, strict=True))

    def _errors(
        self, model: nn.Module, rows: np.ndarray, mirrored: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Squared errors (b, kinds) of the strengths, and of the statistics."""
        known = torch.cat([self.strengths[rows], self.statistics[rows]], 1)
        predicted = model(self._images(rows, mirrored)).float()
        errors = (predicted - known.to(predicted)).square()
        return errors[:, : len(DISTORTIONS)], errors[:, len(DISTORTIONS) :]

    def _images(self, rows: np.ndarray, mirrored: bool) -> torch.Tensor:
        """Views (b, 3, h, w) in [0,1]."""
        pixels = torch.from_numpy(np.ascontiguousarray(self.views.pixels[rows]))
        images = unit_range(pixels, self.compute.device).permute(0, 3, 1, 2)
        return images.flip(3) if mirrored else images
