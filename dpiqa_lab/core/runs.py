"""Run folders: inputs, log and results of a run; never overwritten.

``config.json``, ``identity.json`` and ``data.csv`` (see ``identity``), ``environment.json``
(versions, device, git state), ``metrics.jsonl`` (one line per log), ``predictions.csv``,
``summary.json`` (``status`` running / completed / failed), ``checkpoints/``, ``figures/``. If
several processes train together, only the main one writes.
"""

import contextlib
import json
import platform
import subprocess
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd

from . import distributed
from .device import Compute
from .errors import LabError, listing, shortened, unknown
from .files import atomic_path, check_disk_space, drop_leftovers, read_json, write_json, write_text
from .identity import Identity, recorded_splits
from .locks import folder_lock
from .paths import home, runs_dir, user_path

_RECORDED = (
    "dpiqa-lab", "torch", "diffusers", "transformers", "accelerate", "numpy", "pillow", "pandas",
    "scipy", "scikit-learn", "safetensors",
)  # fmt: skip
# Files written when a run is opened.
_OPENED = {"config.json", "identity.json", "data.csv", "environment.json", "summary.json"}
_LONGEST_NAME = 150  # bytes; file systems allow 255, and temporary names are longer


class Run:
    """A run folder.

    Attributes:
        path: the folder. config: its parameters. state: "new", "interrupted" or "completed".
    """

    def __init__(self, path: Path, config: dict, state: str) -> None:
        self.path = path
        self.config = config
        self.state = state

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        """Folder of weights."""
        return self.path / "checkpoints"

    @property
    def figures(self) -> Path:
        """Folder of figures."""
        return self.path / "figures"

    def reused(self) -> bool:
        """Whether the run was completed before; prints a message if so."""
        if self.state == "completed":
            print(f"run {self.name} is completed, with the same inputs: reused. {self.path}")
        return self.state == "completed"

    def summary(self) -> dict:
        """``summary.json``; empty before the run started."""
        path = self.path / "summary.json"
        return read_json(path) if path.is_file() else {}

    def write_summary(self, status: str, **values: object) -> None:
        """Write ``summary.json``."""
        if not distributed.is_main():
            return
        write_json(self.path / "summary.json", {"name": self.name, "status": status, **values})

    def complete(self, **values: object) -> None:
        """Write the summary of a finished run, after all other files."""
        self.write_summary("completed", **values)
        distributed.wait()
        self.state = "completed"

    def splits(self) -> pd.Series | None:
        """Split by image name of the dataset used; ``None`` without a dataset."""
        return recorded_splits(self.path)

    def history(self) -> pd.DataFrame:
        """``metrics.jsonl`` as a table, one row per line."""
        return pd.DataFrame(self._lines())

    def log(self, line: dict) -> None:
        """Append a line to ``metrics.jsonl``."""
        if not distributed.is_main():
            return
        path = self.path / "metrics.jsonl"
        with check_disk_space(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def rewind(self, step: int) -> None:
        """Delete lines logged after ``step``, which a resumed run writes again."""
        if not distributed.is_main():
            return
        kept = [json.dumps(line) + "\n" for line in self._lines() if line["step"] <= step]
        write_text(self.path / "metrics.jsonl", "".join(kept))

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Write ``<name>.csv``, without the table's index."""
        if not distributed.is_main():
            return
        with atomic_path(self.path / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)

    def predictions(self) -> pd.DataFrame:
        """``predictions.csv``."""
        return pd.read_csv(self.path / "predictions.csv")

    def files(self) -> pd.DataFrame:
        """Sizes in MB of the folder's files, indexed by relative path; no hidden files."""
        paths = (path for path in self.path.rglob("[!.]*") if path.is_file())
        sizes = {
            path.relative_to(self.path).as_posix(): path.stat().st_size / 1e6 for path in paths
        }
        index = pd.Index(sorted(sizes), name="file")
        return pd.DataFrame({"MB": [round(sizes[name], 2) for name in index]}, index)

    def _lines(self) -> list[dict]:
        path = self.path / "metrics.jsonl"
        lines = []
        if path.is_file():
            for text in path.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError):  # a line cut by a crash
                    lines.append(json.loads(text))
        return lines


@contextlib.contextmanager
def open_run(
    name: str, identity: Identity, compute: Compute, rename: bool = False, root: Path | None = None
) -> Iterator[Run]:
    """Context of a run folder, locked against other processes.

    A run of the same identity is continued, or reused if completed; one that failed before anything
    was computed is replaced. Nothing else is overwritten.

    Args:
        name: of the folder. rename: if the folder holds a run of another identity, print so and
            append the identity's hash to the name.

    Raises:
        LabError: the folder holds a run of another identity (differences are listed) and ``rename``
            is False, or another process uses it.
    """
    with contextlib.ExitStack() as stack:

        def take() -> tuple[Path, str]:
            path = (root or runs_dir()) / name
            if other := _differences(path, identity):
                if not rename:
                    raise LabError(
                        f"run {path} was made with other parameters or inputs; give another "
                        f"run_name, or delete the folder:\n{listing(other)}"
                    )
                path = path.with_name(f"{name}-{identity.sha256()[:8]}")
                print(
                    f"run {name} was made with other parameters or inputs:\n{listing(other)}\n"
                    f"this run: {path.name}"
                )
            stack.enter_context(folder_lock(path, wait=False, what="run"))
            if other := _differences(path, identity):  # made meanwhile, or edited
                raise LabError(
                    f"run {path} was made with other parameters or inputs:\n{listing(other)}"
                )
            return path, _state(path)

        path, state = distributed.from_main(take)
        run = Run(path, identity.parameters, state)
        if run.state != "completed" and distributed.is_main():
            for folder in (path, run.checkpoints):
                drop_leftovers(folder)
            write_json(path / "environment.json", _environment(compute))
            run.write_summary("running", started=time.strftime("%Y-%m-%dT%H:%M:%S%z"))
            identity.write(path)
        try:
            yield run
        except BaseException as error:
            if run.state != "completed":
                stopped = isinstance(error, KeyboardInterrupt)
                status = "running" if stopped else "failed"
                text = "interrupted" if stopped else str(error)[:2000]
                with contextlib.suppress(LabError):  # the disk is full, and that was the error
                    run.write_summary(status, error=f"{type(error).__name__}: {text}")
            raise


def check_name(name: str) -> None:
    """Raise LabError if a run's name is not a plain folder name."""
    fits = name.isprintable() and len(name.encode()) <= _LONGEST_NAME
    if not name or not fits or Path(name).name != name or name.startswith("."):
        raise LabError(f"run_name must be a plain folder name, got {shortened(repr(name))}.")


def find_run(name: str | Path, root: Path | None = None) -> Run:
    """A run by the name of its folder, or by its path.

    Raises:
        LabError: no such run; the message gives the nearest name.
    """
    root = root or runs_dir()
    name = user_path(name)
    for path in (name, root / name, home() / name):
        if (path / "config.json").is_file():
            config = read_json(path / "config.json")
            return Run(path, config, _state(path))
    known = sorted(p.parent.name for p in root.glob("*/config.json"))
    if not known:
        raise LabError(
            f"no run {str(name)!r}: {root} contains no runs. Train a model with notebook 03."
        )
    raise unknown("run", str(name), known)


def list_runs(root: Path | None = None) -> pd.DataFrame:
    """One row per run: name, status, training data, backbone and test metrics."""
    rows = []
    for path in sorted((root or runs_dir()).glob("*/config.json")):
        run = find_run(path.parent)
        summary = run.summary()
        test = summary.get("metrics", {}).get("test", {})
        rows.append(
            {
                "name": run.name,
                "status": summary.get("status", "unknown"),
                **{
                    key: run.config.get(key) for key in ("dataset", "backbone", "trunk", "timestep")
                },
                **{f"test_{key}": test.get(key) for key in ("n", "srcc", "plcc")},
            }
        )
    # As float, so that missing values are NaN even if all are missing.
    return pd.DataFrame(rows).astype({f"test_{key}": float for key in ("srcc", "plcc") if rows})


def _differences(path: Path, identity: Identity) -> list[str]:
    """Differences of ``identity`` from the run in a folder; empty if there is none to preserve."""
    if not (path / "config.json").is_file() or _failed_at_once(path):
        return []
    return identity.differences(path)


def _failed_at_once(path: Path) -> bool:
    """Whether a run failed before anything was computed."""
    if _status(path) != "failed":
        return False
    found = (entry for entry in path.rglob("[!.]*") if entry.is_file() and entry.stat().st_size)
    return {entry.name for entry in found} <= _OPENED


def _state(path: Path) -> str:
    if not (path / "config.json").is_file() or _failed_at_once(path):
        return "new"
    return "completed" if _status(path) == "completed" else "interrupted"


def _status(path: Path) -> str | None:
    summary = path / "summary.json"
    return read_json(summary).get("status") if summary.is_file() else None


def _environment(compute: Compute) -> dict:
    versions = {}
    for package in _RECORDED:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(compute.device),
        "precision": compute.precision,
        "why": compute.why,
        "versions": versions,
        "git": _git_state(),
    }


def _git_state() -> dict | None:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments],
            capture_output=True, text=True, check=True, timeout=10,
        ).stdout.strip()  # fmt: skip

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
