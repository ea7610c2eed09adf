"""``load_model``: a model ready to score, from the run that trained it."""

from pathlib import Path

from ..core.errors import LabError
from ..core.paths import embedded
from ..core.runs import Run, find_run
from ..models.image_scorer import ImageScorer
from .conversion import load_converted
from .pmt_iqa_run import load_pmt_iqa
from .student_model import load_student
from .teacher_run import load_teacher

EMBEDDED = "embedded"


def load_model(run: str | Path, weights: str = "best") -> ImageScorer:
    """The model of a run or of a converted checkpoint, with ``.score(photographs)``.

    Args:
        run: name or folder of the run, such as "runs/demo-tiny-1a2b3c4d", the folder that
            ``convert`` wrote, or "embedded": the student that is shipped with the package.
        weights: "best" by validation, or "last".

    Returns:
        A ``Teacher``, a ``Student`` or a peer, on the CPU; ``model.score(["a.jpg", "b.jpg"])``
        gives (n,) float32, on the normalised MOS scale of the photographs it was trained on: about
        0 (worst) to 1 (best), not clipped.

    Raises:
        LabError: no such run, it trained no such model, its files are damaged or do not fit, or it
            has no such weights yet.
    """
    found = find_model(run)
    try:
        return _load(found, weights)
    except (KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise LabError(
            f"{found.path / 'config.json'}: describes no model that can be built here "
            f"({type(error).__name__}: {error}). Was it edited, or made by another version?"
        ) from error


def _load(found: Run, weights: str) -> ImageScorer:
    if "converted_from" in found.config:
        return load_converted(found, weights)
    if found.config.get("kind") == "pmt_iqa":
        return load_pmt_iqa(found, weights)
    if {"variants", "arms"} & found.config.keys():  # the second up to version 0.1
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


def find_model(run: str | Path) -> Run:
    """The run folder that ``load_model`` opens.

    Raises:
        LabError: there is none, or no student is shipped with this installation.
    """
    if run != EMBEDDED:
        return find_run(run)
    folder = embedded("student")
    if not (folder / "config.json").is_file():
        raise LabError(
            f"no student is shipped with this installation ({folder} holds none): name a run, as "
            "load_model('demo') after `python -m dpiqa_lab demo`, or a folder written by convert."
        )
    return find_run(folder)
