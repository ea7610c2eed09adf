"""A notebook run over a grid of parameters: resumable, and one failure does not end the rest."""

import itertools
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ..core.errors import LabError, unknown
from ..core.files import atomic_path, drop_leftovers, json_hash, read_json, write_json
from ..core.locks import hold
from ..core.paths import runs_dir
from ..core.runs import Run, check_name
from .runner import run_notebook
from .spread import spread

_METRICS = ("n", "srcc", "plcc")


def run_sweep(
    notebook: Path | str,
    grid: Mapping[str, Sequence],
    parameters: Mapping[str, object] | None = None,
    name: str | None = None,
    cluster: str | None = None,
) -> pd.DataFrame:
    """Run a notebook once for each combination of the grid's values.

    ``runs/<name>/`` keeps each executed notebook, a record beside it and ``sweep.csv``, written
    after every run. A combination whose record says completed is not run again, whatever has become
    of the code since; a failed or interrupted one is. Each has a run folder of its own,
    ``<name>-<combination>``, where the notebook has the parameter run_name.

    Args:
        grid: values by parameter, as ``{"timestep": [1, 10, 50]}``.
        parameters: what all combinations share.
        name: of the sweep; ``None`` makes one from the notebook and what is shared, so that more
            values of the same parameters go into the same sweep.
        cluster: "local:2", a scheduler's address or file (see ``cluster.open_client``), whose
            workers run several at a time; ``None`` is one after another here.

    Returns:
        A row a combination, in the grid's order: its values, status, run, n, srcc and plcc of the
        run's test part where it has one, seconds, error.

    Raises:
        LabError: no such notebook, a parameter that it does not offer or that is given twice, an
            empty grid, no such cluster, or another process at work in the same sweep.
    """
    notebook, shared = Path(notebook), dict(parameters or {})
    offered = _offered(notebook)
    _check(offered, grid, shared)
    stem = f"{notebook.stem}-{json_hash([notebook.stem, sorted(grid), shared])[:8]}"
    name = name or f"sweep-{stem}"
    check_name(name)
    folder = runs_dir() / name
    combinations = [
        dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())
    ]
    with hold(folder, wait=False, what="sweep"):
        drop_leftovers(folder)
        todo = []
        for values in combinations:
            record, asked = _record(folder, values), _plain({**shared, **values})
            if record.is_file() and (known := read_json(record)["parameters"]) != asked:
                raise LabError(
                    f"sweep {folder} was made with other parameters ({known} for {values}, now "
                    f"{asked}); give another --name, or delete the folder."
                )
            if _completed(record):
                print(f"{_words(values)}: completed, skipped")
                continue
            run = f"{name}-{record.stem}" if "run_name" in offered else None
            todo.append(_Job(_words(values), record, asked, run))
        work = partial(_run, notebook.resolve())
        for job, error in spread(work, _announced(todo, len(combinations)), cluster):
            if isinstance(error, Exception):  # of the cluster; a notebook's is in its record
                _note(job, 0.0, str(error))
            if not _completed(job.record):
                print(f"{job.words} failed: {read_json(job.record)['error']}", flush=True)
            _write(folder, combinations)
        return _write(folder, combinations)


class _Job(NamedTuple):
    """A combination in words, the record to write, and what its notebook is given."""

    words: str
    record: Path
    parameters: dict
    run: str | None


def _announced(jobs: Sequence[_Job], total: int) -> Iterator[_Job]:
    for place, job in enumerate(jobs, total - len(jobs) + 1):
        print(f"[{place}/{total}] {job.words}", flush=True)
        yield job


def _run(notebook: Path, job: _Job) -> None:
    if _completed(job.record):  # by a worker that died before it could say so
        return
    named = {} if job.run is None else {"run_name": job.run}
    start, text = time.monotonic(), None
    try:
        run_notebook(notebook, job.record.with_suffix(".ipynb"), **job.parameters, **named)
    except Exception as error:  # any failure of one notebook leaves the others their turn
        text = str(error).strip() or type(error).__name__
        if not isinstance(error, LabError):
            text = text.splitlines()[-1]  # papermill puts the traceback first
    _note(job, time.monotonic() - start, text)


def _note(job: _Job, seconds: float, error: str | None) -> None:
    """Write a combination's record; it failed where there is an error."""
    result = {
        "parameters": job.parameters,
        "run": job.run,
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
    """Where a combination's record is; its name is also the end of its run's name."""
    readable = re.sub(r"[^\w.=-]+", "-", _words(values).replace(", ", "-"))[:60]
    return folder / f"{readable}-{json_hash(_plain(values))[:6]}.json"


def _words(values: Mapping) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _plain(values: Mapping) -> dict:
    """As JSON gives them back; papermill writes lists into a notebook, but no tuples."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
