"""Run folders: what went into a run, what it did and found, in one place, never overwritten.

``config.json``, ``identity.json`` and ``data.csv`` (see ``identity``), ``environment.json``
(versions, device, git state), ``metrics.jsonl`` (a line a log), ``predictions.csv``,
``summary.json`` (``status`` running / completed / failed), ``checkpoints/``, ``figures/``. Of
several processes that train together the main one writes.
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
# The files that opening a run writes.
_OPENED = {"config.json", "identity.json", "data.csv", "environment.json", "summary.json"}
_LONGEST_NAME = 150  # bytes; file systems take 255, and temporary names are longer


class Run:
    """A run folder.

    Attributes:
        path: the folder. config: its parameters. state: "new", "interrupted" or "completed".
    """

    def __init__(self, path: Path, config: dict, state: str):
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
        """Whether it was completed before, which is printed: nothing is computed again."""
        if self.state == "completed":
            print(f"run {self.name} is completed, with the same inputs: reused. {self.path}")
        return self.state == "completed"

    def summary(self) -> dict:
        """``summary.json``; empty before the run started."""
        path = self.path / "summary.json"
        return read_json(path) if path.is_file() else {}

    def write_summary(self, status: str, **values) -> None:
        """Write ``summary.json``."""
        if not distributed.is_main():
            return
        write_json(self.path / "summary.json", {"name": self.name, "status": status, **values})

    def complete(self, **values) -> None:
        """Write the summary of a run whose work is done; everything else is written before."""
        self.write_summary("completed", **values)
        distributed.wait()
        self.state = "completed"

    def splits(self) -> pd.Series | None:
        """Split by photograph's name of the dataset that went in; ``None`` where none did."""
        return recorded_splits(self.path)

    def history(self) -> pd.DataFrame:
        """``metrics.jsonl`` as a table, a row a line."""
        return pd.DataFrame(self._lines())

    def log(self, line: dict) -> None:
        """Append a line to ``metrics.jsonl``."""
        if not distributed.is_main():
            return
        path = self.path / "metrics.jsonl"
        with check_disk_space(path), open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def rewind(self, step: int) -> None:
        """Drop the lines logged after ``step``: a resumed run writes them again."""
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
    """A run folder, held against other processes for the length of the block.

    A run of the same identity is continued, or reused where it is completed; one that failed
    before anything was computed gives way to another. Nothing else is ever overwritten.

    Args:
        name: of the folder. rename: where it holds a run of another identity, say so and take
            the name with the identity's hash behind it.

    Raises:
        LabError: the folder holds a run of another identity (what differs is listed) and
            ``rename`` is False, or another process is working in it.
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
    """Raise LabError for a run's name that is no plain folder name."""
    fits = name.isprintable() and len(name.encode()) <= _LONGEST_NAME
    if not name or not fits or Path(name).name != name or name.startswith("."):
        raise LabError(f"run_name must be a plain folder name, got {shortened(repr(name))}.")


def find_run(name: str | Path, root: Path | None = None) -> Run:
    """A run by the name of its folder, or by its path.

    Raises:
        LabError: there is none; the message gives the nearest name.
    """
    root = root or runs_dir()
    name = user_path(name)
    for path in (name, root / name, home() / name):
        if (path / "config.json").is_file():
            config = read_json(path / "config.json")
            return Run(path, config, _state(path))
    known = sorted(p.parent.name for p in root.glob("*/config.json"))
    if not known:
        raise LabError(f"no run {str(name)!r}: {root} holds none yet. Train one by notebook 03.")
    raise unknown("run", str(name), known)


def list_runs(root: Path | None = None) -> pd.DataFrame:
    """One row a run: name, status, what it was trained on, and its test metrics."""
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
    # Where it is undefined or missing in all of them too, it is NaN and not None.
    return pd.DataFrame(rows).astype({f"test_{key}": float for key in ("srcc", "plcc") if rows})


def _differences(path: Path, identity: Identity) -> list[str]:
    """What tells the run in a folder from ``identity``; nothing where there is none to be lost."""
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
