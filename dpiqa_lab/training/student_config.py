"""Configuration for training a student; defaults follow from data, trunk and teacher."""

import dataclasses
from pathlib import Path
from typing import Any, Self

from ..core.config import configuration, option
from ..core.device import DEVICES, PRECISIONS
from ..core.errors import LabError
from ..core.paths import runs_dir
from ..core.runs import Run, find_run
from ..datasets.dataset_config import DatasetConfig
from ..models.stage_head import STAGES, STUDENT_HEADS
from ..models.trunks import find_trunk
from .checkpoints import find_weights

# Epochs after which the published student's rate falls to a fifth, where they are not 5 (KonIQ).
MILESTONES = {"clive": (10, 25), "livefb": (4,), "spaq": (6,)}
# What the paper trains EfficientNet-B7 with, and what suits a trunk under a million parameters.
PUBLISHED = {
    "head": "flat",
    "student_width": 512,
    "learning_rate": 1e-4,
    "cosine": False,
    "flip": False,
    "statistics_weight": 0.0,
    "correction": False,
    "warmup_steps": 0,
    "clip_norm": None,
}
# Of trunks that start at random.
_PLAIN = {
    "score_weight": 1.0,
    "correlation_weight": 0.0,
    "ranking_weight": 0.0,
    "frozen_norms": False,
    "frozen_stages": 0,
}
SMALL = {
    "head": "pooled",
    "student_width": 64,
    "learning_rate": 2e-3,
    "cosine": True,
    "flip": True,
    "lr_milestones": (),
    "statistics_weight": 0.1,
    "correction": True,
    # Without these a trunk that knows something is dead after three steps at this rate.
    "warmup_steps": 50,
    "clip_norm": 1.0,
}

# What suits a trunk that has ImageNet's weights and a few thousand photographs with scores.
PRETRAINED = {
    "head": STAGES,
    "learning_rate": 4e-5,
    "head_learning_rate": 3e-6,
    "cosine": True,
    "flip": True,
    "lr_milestones": (),
    "statistics_weight": 0.0,
    "correlation_weight": 1.0,
    "score_weight": 12.0,
    "ranking_weight": 2.0,
    "frozen_norms": True,
    "frozen_stages": 4,
    "correction": True,
    "warmup_steps": 30,
    "clip_norm": 5.0,
}


@configuration
class DistillConfig(DatasetConfig):
    """Parameters of a student training; ``None`` means: decided by ``resolve``, and recorded."""

    teacher: str | None = option(None, "run or folder of the teacher; None: labels alone")
    unlabelled: str | None = option(
        None, "folder of photographs without scores: the teacher is their only label"
    )

    trunk: str = option("auto", "auto, or a name of models.trunks as efficientnet_b7")
    trunk_weights: str = option("none", "none (random), imagenet, prior, hub, a folder or file")
    normalise: bool | None = option(None, "pixels as published weights expect; None: where used")
    head: str | None = option(None, "flat (as published), pooled or stages", STUDENT_HEADS)
    student_width: int | None = option(
        None, "of the head's hidden layers; 512 published", low=1, high=65536
    )
    start_from: str | None = option(None, "run or safetensors file with the student's first values")

    score_weight: float | None = option(
        None, "of the squared error of score against MOS; 1 as published", low=0.0
    )
    teacher_score_weight: float = option(
        0.0, "of the squared error of score against the teacher's; 0 as published", low=0.0
    )
    map_weight: float | None = option(
        None, "of the squared error of maps; 1 as published, 0 without a teacher", low=0.0
    )

    statistics_weight: float | None = option(
        None, "of the squared error of hand-made statistics, a label without a rating", low=0.0
    )
    correction: bool | None = option(
        None, "after the last step, fit by ridge what the pooled head leaves; published: not"
    )

    correlation_weight: float | None = option(
        None, "of a half of 1 - PLCC in the batch and in its subsets; 0 as published", low=0.0
    )
    ranking_weight: float | None = option(
        None, "of order between photographs and damaged copies of them; 0 as published", low=0.0
    )
    ranking_copies: int = option(3, "photographs a batch that are copied for it", low=1)
    frozen_norms: bool | None = option(None, "keep the statistics of the trunk's batch norms")
    frozen_stages: int | None = option(
        None, "first parts of an EfficientNet that are not trained", low=0
    )

    flip: bool | None = option(None, "mirror half of the train photographs, other ones each epoch")
    crop: int | None = option(None, "side in pixels of a random part of each; None: whole", low=32)
    select_on: str = option("val", "part that chooses the checkpoint", ("val", "test"))
    epochs: int = option(30, "passes over the train photographs", low=1)
    max_steps: int | None = option(None, "stop after this many optimiser steps", low=1)
    batch_size: int = option(24, "photographs a step and device", low=1, high=65536)
    accumulation_steps: int = option(1, "batches an optimiser step", low=1)
    learning_rate: float | None = option(None, "of Adam", low=0.0)
    head_learning_rate: float | None = option(None, "of the head; None: learning_rate", low=0.0)
    warmup_steps: int | None = option(None, "over which the rate rises from 0", low=0)
    clip_norm: float | None = option(None, "limit of the gradient's norm", low=0.0)
    lr_milestones: tuple[int, ...] | None = option(None, "epochs after which the rate falls")
    lr_decay: float = option(0.2, "what it falls by", low=0.0, high=1.0)
    cosine: bool | None = option(None, "let the rate fall to 0 by a cosine")
    ema: float = option(0.0, "decay of a running mean of weights, as 0.999; 0: off", low=0.0)
    validate_every: int = option(250, "steps between validations and checkpoints", low=1)
    patience: int | None = option(None, "validations without a better SRCC before stopping", low=1)

    seed: int = option(0, "of initialisation, order, flips and crops", low=0)
    device: str = option("auto", "auto, cpu, cuda or mps", DEVICES)
    precision: str = option("auto", "auto, float32, bfloat16 or float16", ("auto", *PRECISIONS))
    compile: bool = option(False, "torch.compile: minutes at first, then faster; pays on a GPU")
    workers: int = option(0, "processes that read photographs beside the training", low=0, high=256)
    run_name: str | None = option(None, "folder under runs/; None: made from the parameters")

    def resolve(self) -> Self:
        """The same with every ``None`` that has a default replaced by it.

        Raises:
            LabError: an unknown dataset, trunk or run, or values that contradict each other.
        """
        trunk = self.trunk
        if trunk == "auto":
            gpu = self.compute().device.type != "cpu"
            trunk = "efficientnet_b7" if gpu else "efficientnet_tiny"
            print(f"trunk auto: {trunk} ({'a' if gpu else 'no'} GPU is here)")
        defaults = {
            "lr_milestones": MILESTONES.get(self.dataset, (5,)),
            "normalise": self.trunk_weights not in ("none", "prior"),
            "map_weight": 0.0 if self.teacher is None else 1.0,
            **_PLAIN,
            **(SMALL if find_trunk(trunk).small else PUBLISHED),
        }
        if self.trunk_weights == "imagenet":
            defaults |= PRETRAINED
        if self.head == "flat":  # which knows neither
            defaults |= {name: PUBLISHED[name] for name in ("statistics_weight", "correction")}
        values: dict[str, Any] = {
            name: value for name, value in defaults.items() if getattr(self, name) is None
        }
        if self.head_learning_rate is None and "head_learning_rate" not in values:
            values["head_learning_rate"] = values.get("learning_rate", self.learning_rate)
        values |= {"trunk": trunk, **self.machine_defaults(), **self.dataset_defaults()}
        if self.teacher is not None:
            run = find_teacher(self.teacher)
            values["teacher"] = run.name if run.path.parent == runs_dir() else str(run.path)
        if self.unlabelled is not None:
            values["unlabelled"] = str(Path(self.unlabelled).expanduser().resolve())
        config = dataclasses.replace(self, **values)
        return config.checked().named()

    def stem(self) -> str:
        """See ``Configuration``."""
        return f"{self.dataset}-{self.trunk}"

    def _check_teacher(self, weights: float) -> None:
        if self.teacher is None and (weights or self.unlabelled):
            raise LabError(
                "teacher_score_weight, map_weight and unlabelled need a teacher: set teacher to a "
                "run of notebook 03, or leave them out."
            )
        if self.unlabelled and not weights:
            raise LabError(
                "unlabelled photographs have the teacher as their only label: set "
                "teacher_score_weight or map_weight above 0."
            )

    def checked(self) -> Self:
        """This resolved configuration; LabError where values contradict each other."""
        assert self.map_weight is not None
        assert self.score_weight is not None
        assert self.image_size is not None
        self._check_teacher(self.teacher_score_weight + self.map_weight)
        if not self.score_weight + self.teacher_score_weight:
            raise LabError(
                "nothing teaches the score: set score_weight or teacher_score_weight above 0."
            )
        if self.statistics_weight and self.head != "pooled":
            raise LabError(
                "statistics_weight needs the head that predicts statistics beside the score: set "
                "head='pooled', or statistics_weight=0."
            )
        if self.correction and self.head == "flat":
            raise LabError(
                "correction needs a head whose features are few: set head='pooled' or 'stages', or "
                "correction=False."
            )
        if self.crop is not None and self.crop > self.image_size:
            raise LabError(
                f"crop must be at most image_size, {self.image_size}, got {self.crop}: crops are "
                "taken from the photograph as the student sees it."
            )
        if self.ema >= 1:
            raise LabError(f"ema must be below 1, got {self.ema!r}; 0.999 is usual.")
        return self


def find_teacher(name: str) -> Run:
    """A finished run, or a folder that ``convert`` wrote, whose model can teach.

    Raises:
        LabError: there is none, or it is not finished.
    """
    run = find_run(name)
    if run.summary().get("status") not in ("completed", "converted"):
        raise LabError(f"teacher {run.name} is not finished: run notebook 03 on it first.")
    find_weights(run, "best")
    return run
