"""STUB until merged."""

from ..core.files import file_hash, json_hash
from ..core.runs import Run
from .checkpoints import find_weights


def run_fingerprint(run: Run):
    return {
        "source": run.name,
        "weights": file_hash(find_weights(run, "best")),
        "config": json_hash(run.config),
    }
