"""The tiny prior's image adapter: taught by itself to name the damage that it sees."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from ..core.device import Compute
from ..datasets.damages import DAMAGES, strength_table
from ..datasets.views import Views
from ..models.calibrate import QUIET
from ..models.frequency_trunk import FrequencyTrunk
from ..models.pooled_regressor import PooledRegressor
from ..models.trainable import Trainable
from .loop import Task
from .prior_config import PriorConfig

_BATCH = 32  # views a validation pass
_FITTED = 64  # views that the first layer starts from


class PriorAdapter(Trainable):
    """The adapter and a head that reads the strengths of damages; the head does not ship."""

    def __init__(self):
        super().__init__()
        self.trunk = FrequencyTrunk()
        self.damage_head = PooledRegressor(self.trunk.channels, 128, len(DAMAGES))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (b, 3, h, w) in [0,1] to strengths (b, kinds)."""
        return self.damage_head(self.trunk(images))


class AdapterTask(Task):
    """Squared error of the damages' strengths, summed over kinds.

    The goal is ``named``: the share of the strengths' variance explained on held-out photographs.
    """

    goal = "named"

    def __init__(self, network: PriorAdapter, views: Views, config: PriorConfig, compute: Compute):
        self.network = network
        self.views = views
        self.config = config
        self.compute = compute
        self.strengths = torch.from_numpy(strength_table(views.table["damage"]))
        self.rows = {part: views.positions(part) for part in ("train", "val")}

    def start(self) -> None:
        """See ``loop.Task``."""
        rng = np.random.default_rng([self.config.seed, 4])
        few = rng.choice(self.rows["train"], _FITTED)
        self.network.trunk.fit_start(self._images(few, mirrored=False), QUIET)

    def batches(self, epoch: int, start: int) -> Iterator[list]:
        """See ``loop.Task``; a step's views follow from the seed and its number alone."""
        for step in range(start, self.config.adapter_steps):
            rng = np.random.default_rng([self.config.seed, 5, step])
            rows = rng.choice(self.rows["train"], self.config.adapter_batch)
            yield [[rows, bool(rng.integers(2))]]

    def loss(self, model: nn.Module, batch) -> tuple[torch.Tensor, int]:
        """See ``loop.Task``."""
        rows, mirrored = batch
        return self._errors(model, rows, mirrored).mean(), len(rows)

    def names(self, batch) -> list[str]:
        """See ``loop.Task``."""
        return list(self.views.table["photograph"].iloc[batch[0]])

    def validate(self, model: nn.Module) -> dict[str, float]:
        """See ``loop.Task``."""
        rows = self.rows["val"]
        parts = np.array_split(rows, max(1, len(rows) // _BATCH))
        with self.compute.autocast():
            errors = torch.cat([self._errors(model, part, mirrored=False) for part in parts])
        # As tensors: a few views, none of them damaged, have no variance to explain.
        return {"named": (1 - errors.mean().cpu() / self.strengths[rows].var(0).sum()).item()}

    def _errors(self, model, rows: np.ndarray, mirrored: bool) -> torch.Tensor:
        known = self.strengths[rows].to(self.compute.device)
        return (model(self._images(rows, mirrored)).float() - known).square().sum(1)

    def _images(self, rows: np.ndarray, mirrored: bool) -> torch.Tensor:
        """Views (b, 3, h, w) in [0,1]."""
        pixels = torch.from_numpy(np.ascontiguousarray(self.views.pixels[rows]))
        images = pixels.to(self.compute.device).permute(0, 3, 1, 2).float().div(255)
        return images.flip(3) if mirrored else images
