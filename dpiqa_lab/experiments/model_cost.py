"""Cost of a model: parameters, file size, images per second, memory."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from PIL import Image

from ..core.errors import LabError
from ..core.runs import Run
from ..datasets.images import read_image
from ..training.checkpoints import find_weights
from ..training.load_model import load_model

ROUNDS = 3
_CHILD = "from dpiqa_lab.experiments.model_cost import _child; _child()"


def model_costs(
    runs: Mapping[str, Run],
    photographs: Sequence[Path],
    device: str = "auto",
    precision: str = "float32",
    batch_size: int = 8,
) -> pd.DataFrame:
    """Costs of each run's model, each measured in a separate process.

    Args:
        photographs: files to score; resizing to the model's size is timed, reading is not.

    Returns:
        A row per model: model, parameters, weights_mb (of the run's file), image_size in pixels,
        photographs_per_s (best of three rounds after a warm-up), memory_mb: peak memory of the GPU,
        else of the whole process (NaN if not available).

    Raises:
        LabError: a model cannot be loaded or run; the message has the end of its output.
    """
    rows = []
    for name, run in runs.items():
        asked = [str(run.path), [str(path) for path in photographs], device, precision, batch_size]
        command = [sys.executable, "-c", _CHILD, json.dumps(asked)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise LabError(f"measuring {run.name} failed:\n{done.stderr[-2000:]}")
        weights = find_weights(run, "best").stat().st_size / 1e6
        measured = json.loads(done.stdout.splitlines()[-1])
        rows.append({"model": name, "weights_mb": weights, **measured})
    columns = ["model", "parameters", "weights_mb", "image_size", "photographs_per_s", "memory_mb"]
    return pd.DataFrame(rows)[columns]


def _child() -> None:
    path, photographs, device, precision, batch_size = json.loads(sys.argv[1])
    model = load_model(path)
    images = [Image.fromarray(read_image(photograph)) for photograph in photographs]
    seconds = []
    for _ in range(1 + ROUNDS):
        began = time.perf_counter()
        model.score(images, batch_size, device, precision)  # synchronises: scores are on the CPU
        seconds.append(time.perf_counter() - began)
    measured = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "image_size": model.image_size,
        "photographs_per_s": len(images) / min(seconds[1:]),
        "memory_mb": _peak() / 1e6,
    }
    print(json.dumps(measured))


def _peak() -> float:
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
