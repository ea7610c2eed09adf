"""A trained student as small as scoring needs: what ``data/student`` holds."""

from pathlib import Path

import torch

from ..core.errors import LabError
from ..core.files import write_json
from ..core.runs import find_run
from .checkpoints import find_weights, load_weights, save_weights

# Of a run's parameters: what builds the student, and what its scores mean.
_KEPT = (
    "trunk", "image_size", "student_width", "head", "normalise", "statistics_weight", "seed",
    "dataset", "mos_range", "lower_better",
)  # fmt: skip


def ship_student(run: str | Path, folder: str | Path) -> Path:
    """Write the best weights of a student's run to ``folder`` as float16, for ``load_model``.

    The folder holds ``config.json`` and ``checkpoints/best.safetensors`` alone: no path of the
    machine that trained it. Scores move by what float16 rounds (a thousandth of a weight).

    Raises:
        LabError: the run trained no student, or has no weights yet.
    """
    found = find_run(run)
    if "trunk" not in found.config or "variants" in found.config:
        raise LabError(f"run {found.name} trained no student: name a run of train_student.")
    state = load_weights(find_weights(found, "best"))
    # Biases and what norms count are few, and small variances would be lost.
    small = {
        k: v.half() if v.dtype == torch.float32 and v.ndim > 1 else v for k, v in state.items()
    }
    folder = Path(folder)
    save_weights(folder / "checkpoints" / "best.safetensors", small)
    write_json(folder / "config.json", {name: found.config[name] for name in _KEPT})
    return folder
