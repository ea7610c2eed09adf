"""Students from the record of a run, and from weights to start at."""

from pathlib import Path

import torch

from ..core.errors import LabError
from ..core.runs import Run, find_run
from ..models.student import Student
from ..models.trunks import load_trunk
from .checkpoints import find_weights, restore
from .statistics_targets import COUNT


def build_student(config: dict) -> Student:
    """The student that a run's ``config.json`` describes, with random weights by its seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])
        return Student(
            config["trunk"],
            config["image_size"],
            config["student_width"],
            config["head"],
            config["normalise"],
            COUNT if config["statistics_weight"] else 0,
        )


def load_student(run: Run, weights: str = "best") -> Student:
    """The student of a run: "best" by validation, or "last".

    Raises:
        LabError: the run has no such weights yet.
    """
    path = find_weights(run, weights)
    student = build_student(run.config)
    restore(student.load_run_state, path)
    return student.eval()


def set_start(student: Student, trunk_weights: str, start_from: str | None) -> None:
    """Put in the weights that a training starts at, where there are any.

    Args:
        trunk_weights: "none", or see ``trunks.load_trunk``.
        start_from: of the whole student: a safetensors file, or a run, whose best are taken.

    Raises:
        LabError: they cannot be had, or do not fit; the message lists what does not.
    """
    if trunk_weights != "none":
        load_trunk(student.trunk, student.trunk_name, trunk_weights)
    if start_from is not None:
        path = Path(start_from).expanduser()
        if path.suffix != ".safetensors":
            path = find_weights(find_run(start_from), "best")
        try:
            restore(student.load_run_state, path)
        except LabError as error:
            raise LabError(f"start_from {error}") from error
