"""The works that are killed: each writes under a home of its own, and ends with named bytes."""

import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nbformat
import numpy as np
import torch
from PIL import Image

import dpiqa_lab as lab
from dpiqa_lab.automation.sweep import run_sweep
from dpiqa_lab.core.cache import RowCache
from dpiqa_lab.core.device import choose_compute
from dpiqa_lab.core.files import atomic_path, read_json
from dpiqa_lab.core.runs import Run
from dpiqa_lab.experiments.prior_config import PriorConfig
from dpiqa_lab.experiments.prior_run import train_prior
from tests.conftest import photographs, small_student
from tests.support.configs import PRIOR, QUICK, STUDENT

# What tells of time in records that are the same otherwise.
_TIMES = ("seconds", "started", "environment")
_NOTEBOOK = """
from dpiqa_lab.core.device import choose_compute
from dpiqa_lab.core.identity import Identity
from dpiqa_lab.core.runs import open_run
with open_run(run_name, Identity({"x": x}), choose_compute("cpu")) as run:
    if not run.reused():
        run.complete(metrics={"test": {"n": 3, "srcc": x / 10, "plcc": 0.5}})
"""


class Job(NamedTuple):
    """A work under ``DPIQA_HOME``, given the folder of ``make_inputs``; and what it leaves."""

    work: Callable[[Path, Path], object]
    result: Callable[[Path], dict[str, bytes]]


def make_inputs(folder: Path) -> None:
    """Photographs, pictures, a teacher's run, a student and a notebook, which no job changes."""
    root = folder / "photos"
    photographs(root, 30).to_csv(root / "scores.csv", index=False)
    (root / "broken.jpg").write_bytes(b"")  # named by no CSV, found by scoring alone
    rng = np.random.default_rng(0)
    (folder / "pictures").mkdir()
    for i in range(40):
        small = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        picture = small.resize((256, 260), Image.Resampling.BICUBIC)
        picture.save(folder / "pictures" / f"{i}.png")
    small_student(folder / "student")
    _teach(folder, "teacher", {"max_steps": 2, "validate_every": 2})
    shutil.move(Path(os.environ["DPIQA_HOME"]) / "runs" / "teacher", folder / "teacher")
    cells = [
        nbformat.v4.new_code_cell(
            "# Parameters:\nx = 1  # a number\nrun_name = None  # a folder",
            metadata={"tags": ["parameters"]},
        ),
        nbformat.v4.new_code_cell(_NOTEBOOK),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / "small.ipynb")


def make(inputs: Path, home: Path) -> None:
    make_inputs(inputs)


def _teach(inputs: Path, name: str, options: dict) -> None:
    given = {**QUICK, "data_root": str(inputs / "photos"), "precision": "float32"}
    given |= {"random_weights": True, "run_name": name, **options}
    lab.train_teacher(lab.TrainConfig.from_parameters(given))


def _training(inputs: Path, home: Path) -> None:
    _teach(inputs, "killed", {"max_steps": 12, "trainable": "adapters"})


def crowded(inputs: Path, home: Path) -> None:
    """A training with a process that reads ahead, and so many steps that it can be met at work."""
    _teach(inputs, "killed", {"max_steps": 12, "trainable": "decoder", "workers": 1})


def _distillation(inputs: Path, home: Path) -> None:
    RowCache.part_seconds = 0.0
    if not (home / "runs" / "teacher").is_dir():
        shutil.copytree(inputs / "teacher", home / "copied")
        (home / "runs").mkdir(exist_ok=True)
        (home / "copied").rename(home / "runs" / "teacher")
    given = {**STUDENT, "data_root": str(inputs / "photos"), "teacher": "teacher", "ema": 0.9}
    # With all that is random or remembered: skipped blocks, mirrors, parts, running means.
    given |= {"run_name": "killed", "max_steps": 10, "flip": True, "crop": 48}
    lab.train_student(lab.DistillConfig.from_parameters(given))


def _extraction(inputs: Path, home: Path) -> None:
    RowCache.part_seconds = 0.0  # every batch is a file of its own: more moments to be killed in
    dataset = lab.load_dataset(
        "folder", inputs / "photos", labels="scores.csv", mos_range=(0, 100), image_size=64
    )
    features = lab.extract_features(
        lab.load_backbone("tiny"), dataset, (1, 200), ["mid_block", "up_blocks.1", "up_blocks.3"],
        ["noise", "blur"], 3, compute=choose_compute("cpu", "float32"), batch_size=4,
    )  # fmt: skip
    with atomic_path(home / "features.bin") as temporary:
        rows = (
            features[t, tap, pooling].numpy().tobytes()
            for t in features.timesteps
            for tap in features.taps
            for pooling in ("mean", "std", "max", "grid")
        )
        temporary.write_bytes(b"".join(rows))


def _sweep(inputs: Path, home: Path) -> None:
    table = run_sweep(inputs / "small.ipynb", {"x": [1, 2]}, name="killed")
    assert list(table["status"]) == ["completed"] * 2, table["error"].tolist()


def _scoring(inputs: Path, home: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # broken.jpg is told of
        out = home / "scores.csv"
        lab.score_folder(inputs, inputs / "student", out, batch_size=2, device="cpu")


def _prior(inputs: Path, home: Path) -> None:
    given = {**PRIOR, "photographs": str(inputs / "pictures"), "run_name": "killed"}
    train_prior(PriorConfig.from_parameters(given))


def _files(home: Path, *names: str) -> dict[str, bytes]:
    return {name: (home / name).read_bytes() for name in names}


def _run(home: Path, name: str, *files: str) -> dict[str, bytes]:
    """Named files of a run, and what it recorded but for times."""
    run = Run(home / "runs" / name, {}, "")
    summary = {k: v for k, v in run.summary().items() if k not in _TIMES}
    history = run.history().drop(columns="seconds").to_json()
    found = {"summary": json.dumps(summary).encode(), "history": history.encode()}
    assert not list(run.path.glob("checkpoints/step-*")), "trainer states of a completed run"
    hidden = [p for p in run.path.rglob(".*") if p.name not in (".lock", ".holder")]
    assert not hidden, f"left over by writers that were killed: {hidden}"
    return {**{f"{name}/{k}": v for k, v in found.items()}, **_files(run.path, *files)}


def _trained(home: Path) -> dict[str, bytes]:
    weights = ("checkpoints/best.safetensors", "checkpoints/last.safetensors")
    return _run(
        home, "killed", *weights, "predictions.csv", "data.csv", "identity.json", "config.json"
    )


def _swept(home: Path) -> dict[str, bytes]:
    folder = home / "runs" / "killed"
    found = {}
    for record in sorted(folder.glob("x=*.json")):
        read_json(record.with_suffix(".ipynb"))
        known = {k: v for k, v in read_json(record).items() if k not in _TIMES}
        found[record.name] = json.dumps(known).encode()
        summary = Run(home / "runs" / known["run"], {}, "").summary()
        found[known["run"]] = json.dumps({**summary, "started": ""}).encode()
    assert len(found) == 4
    return found


def _exported(home: Path) -> dict[str, bytes]:
    found = _run(home, "killed", "checkpoints/last.safetensors")
    for part in ("adapter", "vae"):
        name = f"killed-{part}"
        own = _run(home, name, "checkpoints/last.safetensors")
        found |= {f"{name}: {key}": value for key, value in own.items()}
    model = home / "runs" / "killed" / "model"
    for path in sorted(model.rglob("*.safetensors")):
        found[str(path.relative_to(model))] = path.read_bytes()
    assert len(found) == 13
    return found


JOBS = {
    "training": Job(_training, _trained),
    "distillation": Job(_distillation, _trained),
    "extraction": Job(_extraction, lambda home: _files(home, "features.bin")),
    "sweep": Job(_sweep, _swept),
    "scoring": Job(
        _scoring, lambda home: _files(home, "scores.csv", "scores-unreadable.csv", "scores.json")
    ),
    "prior": Job(_prior, _exported),
}

torch.set_num_threads(1)  # before any work: what is forked from this process may use torch too
