"""What a model costs in use: parameters, file, photographs a second, memory."""

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
    """Costs of each run's model, one after the other, each in a process of its own.

    Args:
        photographs: files that all of them score, from memory: reading them is not timed,
            squashing them to the model's size is.

    Returns:
        A row a model: model, parameters, weights_mb (of the run's file: what was trained),
        image_size in pixels, photographs_per_s (the best of three rounds after a first that does
        not count) and memory_mb: the peak of the device's memory on a GPU, else of the whole
        process, Python and torch included (NaN where the system does not tell).

    Raises:
        LabError: a model cannot be loaded or run; the end of what it said is in the message.
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
        model.score(images, batch_size, device, precision)  # its scores are on the CPU: it waited
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
