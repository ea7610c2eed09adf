"""Configuration of notebook 04."""

import dataclasses
from typing import Any

from ..core.config import configuration, option
from ..core.errors import LabError
from ..datasets.dataset_config import DatasetConfig
from ..diffusion.loading import resolve_auto
from ..training.student_config import DistillConfig
from ..training.teacher_config import TrainConfig

# Whether each variant learns the teacher's score, and its feature map, besides the labels.
VARIANTS = {"labels": (False, False), "score": (True, False), "map": (False, True),
        "both": (True, True)}  # fmt: skip


@configuration
class DistillationConfig(DistillConfig):
    """A student per variant; the weight of a term applies to variants that have it."""

    teacher: str | None = option(None, "run or folder of the teacher; None: a short training")
    teacher_score_weight: float = option(
        1.0, "weight of the teacher's score, in variants with it", low=0
    )
    max_steps: int | None = option(200, "optimiser steps of each student; None: all epochs", low=1)
    validate_every: int = option(50, "steps between validations and checkpoints", low=1)

    variants: tuple[str, ...] = option(
        tuple(VARIANTS), "variants: labels, score, map, both", VARIANTS
    )
    teacher_backbone: str = option("auto", "of a short training: auto, tiny, sd15, sd21, …")
    teacher_steps: int = option(20, "optimiser steps of a short training", low=1)

    def resolve(self) -> "DistillationConfig":
        """See ``DistillConfig``."""
        if not self.variants:
            raise LabError(f"variants is empty: give some of {', '.join(VARIANTS)}.")
        values: dict[str, Any] = {"map_weight": 1.0 if self.map_weight is None else self.map_weight}
        if self.teacher is None and self.teacher_backbone == "auto":
            values["teacher_backbone"], why = resolve_auto(self.device)
            print(f"teacher_backbone auto: {values['teacher_backbone']} ({why})")
        return super(DistillationConfig, dataclasses.replace(self, **values)).resolve()

    def students(self, teacher: str, name: str | None = None) -> dict[str, DistillConfig]:
        """The trainings ``<name>-<variant>`` by variant.

        With unlabelled images, variants with a teacher are trained with and without these.
        """
        fields = [field.name for field in dataclasses.fields(DistillConfig)]
        shared = {name: getattr(self, name) for name in fields}
        found, name = {}, name or self.run_name
        for variant in self.variants:
            score, feature_map = VARIANTS[variant]
            own = {
                "teacher": teacher if score or feature_map else None,
                "teacher_score_weight": self.teacher_score_weight if score else 0.0,
                "map_weight": self.map_weight if feature_map else 0.0,
                "unlabelled": None,
                "run_name": f"{name}-{variant}",
            }
            found[variant] = DistillConfig(**{**shared, **own}).resolve()
            if self.unlabelled is not None and own["teacher"]:
                more = {**own, "unlabelled": self.unlabelled}
                more["run_name"] = f"{name}-{variant}-unlabelled"
                found[f"{variant} + unlabelled"] = DistillConfig(**{**shared, **more}).resolve()
        return found

    def own_teacher(self, name: str | None = None) -> TrainConfig:
        """A short teacher training on the same dataset."""
        shared = [field.name for field in dataclasses.fields(DatasetConfig)]
        shared += ["seed", "device", "precision", "workers", "select_on"]
        return TrainConfig(
            **{name: getattr(self, name) for name in shared},
            backbone=self.teacher_backbone,
            max_steps=self.teacher_steps,
            validate_every=max(1, self.teacher_steps // 2),
            run_name=f"{name or self.run_name}-teacher",
        ).resolve()

    def _check_teacher(self, weights: float) -> None:
        """No check: a missing teacher is trained."""
