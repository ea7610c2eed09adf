"""``train_pmt_iqa``: from a config to a run folder with weights, predictions and metrics."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import nn

from ..core.device import Compute
from ..core.runs import Run
from ..datasets.pixels import pixels_of
from ..models.pmt_iqa import PmtIqa, easy_to_hard
from ..models.resnet import resnet_input
from .batches import StepBatches
from .checkpoints import find_weights, load_weights, restore
from .loop import Schedule, Task, fit_and_save_last
from .peer_config import PmtIqaConfig
from .peer_run import Source, limit_images, run_peer, score_and_record, to_images
from .run_metrics import part_metrics, validation_metrics


def train_pmt_iqa(
    config: PmtIqaConfig, dataset: Source | None = None, rename: bool | None = None
) -> Run:
    """Train a PMT-IQA, or continue or reuse the run of that name.

    Args:
        config: a resolved config.
        dataset: in place of the one that ``config`` names; or ``{"train": ..., "val": ...}``,
            sequences of items.
        rename: see ``train_teacher``.

    Returns:
        The run, completed. ``load_model`` opens it.

    Raises:
        LabError: bad input.
    """
    models = {}
    if config.weights is not None:
        models["trunk_weights"] = resnet_input(config.trunk, config.weights)
    return run_peer(config, dataset, _train, models, rename)


def load_pmt_iqa(run: Run, weights: str = "best") -> PmtIqa:
    """The PMT-IQA of a run: "best" by validation, or "last".

    Raises:
        LabError: the run has no such weights yet.
    """
    path = find_weights(run, weights)
    network = PmtIqa(*(run.config[name] for name in ("trunk", "image_size", "crop_size")))
    restore(network.load_run_state, path)
    return network.eval()


class PmtIqaTask(Task):
    """The fit loop's task: random crops of train images, half of them mirrored."""

    goal = "srcc"

    def __init__(
        self,
        network: PmtIqa,
        parts: Mapping[str, Sequence[dict]],
        config: PmtIqaConfig,
        compute: Compute,
    ) -> None:
        self.network = network
        self.config = config
        self.compute = compute
        self.train, self.val = parts["train"], parts["val"]
        assert config.image_size is not None
        images = limit_images(pixels_of(parts["train"], config.image_size), config)
        self.steps = StepBatches(images, config.batch_size, 1, config.seed, config.workers)

    def parameter_groups(self) -> list[dict]:
        """See ``loop.Task``."""
        decay = {"weight_decay": self.config.weight_decay}
        return [{**group, **decay} for group in super().parameter_groups()]

    def batches(self, epoch: int, start: int) -> Iterator[list]:
        """See ``loop.Task``; a step's crops follow from the seed, the epoch and its number."""
        config, regression = self.config, self.config.regression(epoch)
        for step, (batch,) in enumerate(self.steps.epoch(epoch, start), start):
            pixels, mos, positions = batch
            rng = np.random.default_rng([config.seed, 4, epoch, step])
            crops = random_crops(pixels, config.crop_size, config.crops, rng)
            yield [[crops, mos.repeat_interleave(config.crops), regression, positions]]

    def loss(self, model: nn.Module, batch: Sequence) -> tuple[torch.Tensor, int]:
        """See ``loop.Task``."""
        crops, mos, regression, _ = batch
        output = model(to_images(crops, self.compute))
        mos = mos.to(self.compute.device)
        return easy_to_hard(output, mos, regression, self.config.mos_scale), len(mos)

    def names(self, batch: Sequence) -> list[str]:
        """See ``loop.Task``."""
        table = getattr(self.train, "table", None)
        return [] if table is None else list(table["name"].iloc[batch[3].tolist()])

    def validate(self, model: nn.Module) -> dict[str, float]:
        """See ``loop.Task``."""
        return validation_metrics(score_and_record(model, self.val, self.config, self.compute))


def random_crops(
    images: torch.Tensor, size: int, count: int, rng: np.random.Generator
) -> torch.Tensor:
    """``count`` crops of each image (b, 3, h, w), one after the other, half of them mirrored."""
    crops = []
    for image in images.repeat_interleave(count, 0):
        y, x = (int(rng.integers(side - size + 1)) for side in image.shape[1:])
        crop = image[:, y : y + size, x : x + size]
        crops.append(crop.flip(2) if rng.random() < 0.5 else crop)
    return torch.stack(crops)


def _train(
    run: Run, config: PmtIqaConfig, parts: Mapping[str, Sequence[dict]], compute: Compute
) -> dict:
    assert config.image_size is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = PmtIqa(config.trunk, config.image_size, config.crop_size, config.weights)
    task = PmtIqaTask(network, parts, config, compute)
    schedule = Schedule(
        steps_per_epoch=len(task.steps),
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        lr_milestones=tuple(range(config.lr_every, config.epochs, config.lr_every)),
        lr_decay=0.1,
        validate_every=config.validate_every,
    )
    record = fit_and_save_last(run, task, schedule, compute)
    network.load_run_state(load_weights(run.checkpoints / "best.safetensors"))
    tables = [
        score_and_record(network, part, config, compute).assign(split=name)
        for name, part in parts.items()
        if name != "train"
    ]
    predictions = pd.concat(tables)
    run.write_table("predictions", predictions)
    train = getattr(parts["train"], "table", None)
    return {"metrics": part_metrics(predictions, train), **record}
