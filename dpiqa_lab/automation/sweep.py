"""Sweeps of a notebook over a grid of parameters: resumable, tolerant of single failures."""

import itertools
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import nbformat
import pandas as pd

from ..core.errors import LabError, listing, unknown
from ..core.executors import run_items
from ..core.files import atomic_path, drop_leftovers, json_hash, read_json, write_json
from ..core.locks import folder_lock
from ..core.paths import runs_dir
from ..core.runs import Run, check_name, find_run
from .changed_inputs import changed_inputs
from .notebook_runner import run_notebook

_METRICS = ("n", "srcc", "plcc")


def run_sweep(
    notebook: Path | str,
    grid: Mapping[str, Sequence],
    parameters: Mapping[str, object] | None = None,
    name: str | None = None,
    cluster: str | None = None,
) -> pd.DataFrame:
    """Run a notebook once for each combination of the grid's values.

    ``runs/<name>/`` holds each executed notebook, a record beside it and ``sweep.csv``, written
    after every run. A completed combination is skipped if the notebook's code, the lab's version
    and the inputs of its run are unchanged; a failed or interrupted one is run again. Each has
    its own run folder, ``<name>-<combination>``, where the notebook has the parameter run_name.

    Args:
        grid: values by parameter, as ``{"timestep": [1, 10, 50]}``.
        parameters: shared by all combinations.
        name: of the sweep; ``None`` derives it from the notebook and the shared parameters, so
            that more values of the same parameters extend the same sweep while its combinations
            remain reproducible.
        cluster: "local:2", a scheduler's address or file (see ``cluster.open_client``), whose
            workers run in parallel; ``None``: one after another in this process.

    Returns:
        A row per combination, in the grid's order: its values, status, run, n, srcc and plcc on
        the test split where known, seconds, error.

    Raises:
        LabError: no such notebook, a parameter that it lacks or that is given twice, an empty
            grid, no such cluster, a sweep in use by another process, or an existing sweep of that
            name with other parameters, code or inputs.
    """
    notebook, shared = Path(notebook), dict(parameters or {})
    offered = _offered(notebook)
    _check(offered, grid, shared)
    combinations = [
        dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())
    ]
    code = _code(notebook)
    asked = [(values, _plain({**shared, **values})) for values in combinations]
    if name is None:
        stem = f"sweep-{notebook.stem}-{json_hash([notebook.stem, sorted(grid), shared])[:8]}"
        names = itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2)))
        name = next(name for name in names if not _conflict(runs_dir() / name, asked, code))
    check_name(name)
    folder = runs_dir() / name
    if other := _conflict(folder, asked, code):
        raise LabError(f"sweep {folder} {other}\nGive another --name, or delete the folder.")
    with folder_lock(folder, wait=False, what="sweep"):
        drop_leftovers(folder)
        todo = []
        for values, parameters in asked:
            record = _record(folder, values)
            if _completed(record):
                print(f"{_words(values)}: completed, skipped")
                continue
            run = f"{name}-{record.stem}" if "run_name" in offered else None
            todo.append(_Job(_words(values), record, parameters, run, code))
        work = partial(_run, notebook.resolve())
        for job, error in run_items(work, _announced(todo, len(combinations)), cluster):
            if isinstance(
                error, Exception
            ):  # from the cluster; a notebook's error is in its record
                _note(job, 0.0, str(error))
            if not _completed(job.record):
                print(f"{job.words} failed: {read_json(job.record)['error']}", flush=True)
            _write(folder, combinations)
        return _write(folder, combinations)


def _conflict(folder: Path, asked: Sequence[tuple[dict, dict]], code: str) -> str:
    """Why an existing sweep would give other results now; empty where it would not.

    Args:
        asked: values of the grid, and all parameters, of each combination.
    """
    for values, parameters in asked:
        record = _record(folder, values)
        if not record.is_file():
            continue
        done = read_json(record)
        if done["parameters"] != parameters:
            return f"was made with other parameters ({done['parameters']}, now {parameters})."
        if not _completed(record):
            continue
        if done.get("code") != code:
            return "was made by other code of the notebook, or by another version of the lab."
        run = runs_dir() / (done["run"] or "")
        if (run / "config.json").is_file() and (other := changed_inputs(find_run(run))):
            return f"was made of other inputs; in its run {run.name}:\n{listing(other)}"
    return ""


def _code(notebook: Path) -> str:
    """Hash of a notebook's code cells and the lab's version."""
    cells = nbformat.read(notebook, as_version=4).cells
    return json_hash([version("dpiqa-lab"), [c.source for c in cells if c.cell_type == "code"]])


class _Job(NamedTuple):
    """A combination as text, its record file, and its notebook's parameters."""

    words: str
    record: Path
    parameters: dict
    run: str | None
    code: str


def _announced(jobs: Sequence[_Job], total: int) -> Iterator[_Job]:
    for place, job in enumerate(jobs, total - len(jobs) + 1):
        print(f"[{place}/{total}] {job.words}", flush=True)
        yield job


def _run(notebook: Path, job: _Job) -> None:
    if _completed(job.record):  # by a worker that died before it reported
        return
    named = {} if job.run is None else {"run_name": job.run}
    start, text = time.monotonic(), None
    try:
        run_notebook(notebook, job.record.with_suffix(".ipynb"), **job.parameters, **named)
    except Exception as error:  # noqa: BLE001 - one notebook's failure does not stop the others
        text = str(error).strip() or type(error).__name__
        if not isinstance(error, LabError):
            text = text.splitlines()[-1]  # papermill puts the traceback first
    _note(job, time.monotonic() - start, text)


def _note(job: _Job, seconds: float, error: str | None) -> None:
    """Write a combination's record; with an error its status is failed."""
    result = {
        "parameters": job.parameters,
        "run": job.run,
        "code": job.code,
        "error": error and error[:500],
        "status": "failed" if error else "completed",
        "seconds": round(seconds, 1),
    }
    write_json(job.record, result)


def _completed(record: Path) -> bool:
    return record.is_file() and read_json(record)["status"] == "completed"


def _write(folder: Path, combinations: Sequence[dict]) -> pd.DataFrame:
    rows = []
    for values in combinations:
        path = _record(folder, values)
        known = read_json(path) if path.is_file() else {"status": "waiting"}
        test = {}
        if known.get("run"):
            summary = Run(runs_dir() / known["run"], {}, "").summary()
            test = summary.get("metrics", {}).get("test", {})
        row = {**values, "status": known["status"], "run": known.get("run")}
        row |= {metric: test.get(metric) for metric in _METRICS}
        rows.append({**row, "seconds": known.get("seconds"), "error": known.get("error")})
    table = pd.DataFrame(rows)
    with atomic_path(folder / "sweep.csv") as temporary:
        table.to_csv(temporary, index=False)
    return table


def _offered(notebook: Path) -> list[str]:
    import papermill

    if not notebook.is_file():
        raise LabError(f"no notebook {notebook}; those of the lab are in notebooks/.")
    offered = list(papermill.inspect_notebook(notebook))
    if not offered:
        raise LabError(
            f'no cell of {notebook} that sets parameters has the tag "parameters"; give it to the '
            "cell that sets them, so that papermill can put the sweep's values below it."
        )
    return offered


def _check(offered: Sequence[str], grid: Mapping, shared: Mapping) -> None:
    if not grid or not all(len(values) for values in grid.values()):
        raise LabError("the grid is empty: give at least one parameter with values.")
    for name in (*grid, *shared):
        if name not in offered:
            raise unknown("parameter of the notebook", name, offered)
    if twice := sorted(set(grid) & set(shared)):
        raise LabError(f"{', '.join(twice)}: given both to all runs and as part of the grid.")
    if "run_name" in (*grid, *shared):
        raise LabError("run_name: a sweep names its runs itself; name the sweep instead.")
    for name, values in grid.items():
        if len(set(map(str, values))) < len(values):
            raise LabError(f"{name}: a value of the grid is given twice.")


def _record(folder: Path, values: Mapping) -> Path:
    """Path of a combination's record; its stem is also the suffix of the run's name."""
    readable = re.sub(r"[^\w.=-]+", "-", _words(values).replace(", ", "-"))[:60]
    return folder / f"{readable}-{json_hash(_plain(values))[:6]}.json"


def _words(values: Mapping) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _plain(values: Mapping) -> dict:
    """Tuples as lists, as JSON and papermill have no tuples."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
