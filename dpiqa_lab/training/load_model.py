"""``load_model``: a model ready to score, from the run that trained it."""

from pathlib import Path

from torch import nn

from ..core.errors import LabError
from ..core.runs import find_run
from .converted import load_converted
from .pmt_iqa_run import load_pmt_iqa
from .student_model import load_student
from .teacher_run import load_teacher


def load_model(run: str | Path, weights: str = "best") -> nn.Module:
    """The model of a run or of a converted checkpoint, with ``.score(photographs)``.

    Args:
        run: name or folder of the run, such as "runs/demo-tiny-1a2b3c4d", or the folder that
            ``convert`` wrote.
        weights: "best" by validation, or "last".

    Raises:
        LabError: no such run, it trained no such model, or it has no such weights yet.
    """
    found = find_run(run)
    if "converted_from" in found.config:
        return load_converted(found, weights)
    if found.config.get("kind") == "pmt_iqa":
        return load_pmt_iqa(found, weights)
    if "arms" in found.config:
        raise LabError(
            f"run {found.name} compared students, which are runs of their own: load one of "
            f"{', '.join(found.summary().get('runs', {}).values()) or 'them'}."
        )
    if "trunk" in found.config:
        return load_student(found, weights)
    if "backbone" not in found.config:
        raise LabError(
            f"run {found.name} trained a prior, which does not score: load_backbone("
            f"{str(found.path / 'model')!r}) opens it, and notebook 03 trains a teacher on it."
        )
    return load_teacher(found, weights)
