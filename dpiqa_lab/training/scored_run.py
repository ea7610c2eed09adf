"""Shared by trainings of teacher and student: validation, predictions and the run's record."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from ..core import distributed
from ..core.device import Compute, keep_freed_memory, make_deterministic, out_of_memory
from ..core.errors import LabError, listing
from ..core.experiment import experiment
from ..core.identity import Inputs
from ..core.runs import Run
from ..datasets.dataset import QualityDataset
from ..datasets.images import unit_range
from ..datasets.pixels import Pixels
from ..datasets.split_schemes import SPLITS
from ..models.image_scorer import ModelOutput
from ..models.trainable import Trainable
from .batches import StepBatches
from .checkpoints import drop_checkpoints, load_weights, save_weights
from .loop import Schedule, Task, fit_and_save_last
from .run_metrics import part_metrics, validation_metrics
from .student_config import DistillConfig
from .teacher_config import TrainConfig

EVALUATION_BATCH = 16
C = TypeVar("C", TrainConfig, DistillConfig)


class ScoreTask(Task):
    """A task of a network that scores photographs; ``steps`` are those of an epoch.

    Subclasses say what the network is shown and its loss.
    """

    goal = "srcc"
    steps: StepBatches
    # A resolved TrainConfig or DistillConfig: fields that may be None before are set.
    config: Any

    def __init__(
        self,
        network: Trainable,
        dataset: QualityDataset,
        config: TrainConfig | DistillConfig,
        compute: Compute,
    ) -> None:
        self.network = network
        self.config = config
        self.compute = compute
        self.parts = {name: dataset.in_split(name) for name in SPLITS}

    def scorer(self) -> Trainable:
        """The network whose weights the run is to give."""
        return self.network

    def kept(self) -> dict[str, torch.Tensor]:
        """See ``loop.Task``."""
        return self.scorer().run_state()

    def output(
        self,
        model: nn.Module,
        pixels: torch.Tensor,
        split: str,  # noqa: ARG002 - for subclasses
        positions: torch.Tensor,  # noqa: ARG002 - for subclasses
    ) -> ModelOutput:
        """``model``'s output for pixels (b, 3, s, s) uint8 at these positions of a split."""
        return model(self.images(pixels))

    def names(self, batch: Sequence) -> list[str]:
        """See ``loop.Task``."""
        return list(self.parts["train"].table["name"].iloc[batch[2].tolist()])

    def finish(self) -> dict:
        """Called after the last step with the best weights; gives entries of the summary.

        Where there are entries, the run's weights are written again. A second call, as in a run
        that was killed here, must give the same.
        """
        return {}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """See ``loop.Task``; on the part that chooses the checkpoint."""
        return validation_metrics(self.predict(model, self.config.select_on))

    def predict(self, model: nn.Module, part: str) -> pd.DataFrame:
        """name, mos, score, split, and group and subset where known, of a part.

        Raises LabError naming the photographs whose score is not finite.
        """
        dataset = self.parts[part]
        score = self.scores(model, Pixels(dataset), part)
        table = dataset.table
        kept = [name for name in ("subset", "group") if name in table]
        table = table[["name", "mos", "split", *kept]].assign(score=score.numpy())
        if len(bad := table[~np.isfinite(table["score"])]):
            raise LabError(
                f"the scores of {len(bad)} of {len(table)} photographs ({part}) are not finite; "
                f"try precision='float32' or a lower learning_rate:\n{listing(bad['name'])}"
            )
        return table[["name", "mos", "score", "split", *kept]]

    def scores(self, model: nn.Module, photographs: Dataset, part: str) -> torch.Tensor:
        """Scores (n,) float32 of photographs of a part, as ``Pixels`` gives them, in every process.

        Each process computes its ``distributed.shard_indices`` of them.
        """
        model.eval()
        own = Subset(photographs, distributed.shard_indices(len(photographs)))
        loader = DataLoader(own, batch_size=EVALUATION_BATCH, num_workers=self.config.workers)
        found = [torch.zeros(0)]
        with self.scorer().evaluation(self.compute):
            for pixels, _, positions in loader:
                output = self.output(model, pixels, part, positions)
                found.append(output.score.float().cpu())
        return distributed.all_gather_rows(torch.cat(found), len(photographs))

    def images(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (b, 3, s, s) uint8 as images in [0,1] on the task's device."""
        return unit_range(pixels, self.compute.device)


def run_training(
    config: C,
    dataset: QualityDataset,
    inputs: Inputs,
    train: Callable[[Run, C, QualityDataset, Compute], dict],
    advice: str,
    rename: bool | None = None,
) -> Run:
    """Train what ``config`` asks for, or continue or reuse the run of that name.

    Args:
        config: resolved, of a teacher or a student.
        dataset: of photographs with scores. inputs: that dataset and the models that go in.
        train: does the work and gives the summary's content.
        advice: what else to do when out of memory, beside smaller batches and images.
        rename: see ``experiment``.

    Raises:
        LabError: bad input; out of memory, with what to lower.
    """
    compute = config.compute()
    make_deterministic()
    keep_freed_memory()
    distributed.init(compute.device)
    # They multiply the batch.
    more = {"processes": distributed.count()} if distributed.count() > 1 else {}

    def work(run: Run) -> dict:
        try:
            return train(run, config, dataset, compute)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise LabError(
                f"out of memory on {compute.device}: lower batch_size (now {config.batch_size}; "
                "accumulation_steps keeps the effective size) or image_size (now "
                f"{config.image_size}), {advice}"
            ) from error

    with distributed.mute_workers():
        run = experiment(config, inputs, work, rename, **more)
        if distributed.is_main():
            drop_checkpoints(run.checkpoints)  # here, as a killed run may have come to its summary
    return run


def fit_and_record(
    run: Run, task: ScoreTask, dataset: QualityDataset, notes: Sequence[str], **record: object
) -> dict:
    """Fit, write the weights and the best ones' predictions; gives the summary's content.

    Args:
        notes: what a reader of the results should know, beside what dataset and config say.
        record: of the summary.
    """
    config = task.config
    if len(dataset.manifest.skipped):
        run.write_table("skipped", dataset.manifest.skipped)
    schedule = schedule_of(config, len(task.steps))
    record |= fit_and_save_last(run, task, schedule, task.compute)
    scorer = task.scorer()
    best = run.checkpoints / "best.safetensors"
    scorer.load_run_state(load_weights(best))
    if finished := task.finish():
        record |= finished
        if distributed.is_main():
            save_weights(best, scorer.run_state())
    predictions = pd.concat([task.predict(scorer, part) for part in ("val", "test")])
    run.write_table("predictions", predictions)
    notes = [*dataset.manifest.notes, *notes]
    found = part_metrics(predictions, dataset.in_split("train").table)
    for part, values in found.items():
        if np.isnan(values["srcc"]):
            notes.append(
                f"correlations on {part} are UNDEFINED: fewer than 3 photographs, or their scores "
                "(or MOS) are all the same"
            )
    if config.select_on == "test":
        notes.append("the checkpoint was CHOSEN ON THE TEST PART, as the authors' code does")
    return {
        "metrics": found,
        "dataset": repr(dataset),
        "split": dataset.manifest.split,
        "select_on": config.select_on,
        "notes": notes,
        **record,
    }


def schedule_of(config: TrainConfig | DistillConfig, steps_per_epoch: int) -> Schedule:
    """The schedule of a configuration."""
    shared = {field.name for field in dataclasses.fields(Schedule)} & vars(config).keys()
    return Schedule(steps_per_epoch, **{name: getattr(config, name) for name in shared})
