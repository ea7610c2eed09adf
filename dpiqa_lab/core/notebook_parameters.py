"""Parameters set by a notebook, in any environment and after any edits of its cells.

No tag is required. Every name assigned above the call of ``notebook_parameters`` is a parameter,
unless it starts with an underscore. Names come from the source of the program (``cells.py``),
values from the namespace.
"""

import dataclasses
import os
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import reduce
from pathlib import Path
from typing import Any

from .cells import COMPUTED, PERHAPS, Cell, add, obscured
from .errors import LabError, series, shortened
from .extras import check_extras

_AGAIN = "Restart the kernel and run all cells"


def notebook_parameters(namespace: Mapping[str, object]) -> dict[str, object]:
    """Names and values assigned above the call, for a configuration to check.

    Works in Jupyter, in papermill, with IPython's ``%run notebook.ipynb`` or ``ipython
    notebook.ipynb``, and in scripts made by nbconvert. Imports, loop variables, functions, names
    that start with an underscore and variables of cells below the call are excluded. All other
    names are included, so that a configuration can refuse unknown ones.

    In a live kernel the last run of each cell counts. A cell that first ran after the parameters
    were read counts as below the call, unless it only assigns parameters.

    Args:
        namespace: the notebook's ``globals()``.

    Raises:
        LabError: the values are uncertain: no source, nothing assigned above, a value that differs
            from its assignment, or a papermill value that was overwritten; or a package that
            notebooks need is missing.
    """
    check_extras("notebooks", "train")
    program, above = _program(namespace)
    readers = {cell.reader for cell in program if cell.reader}
    if len(readers) > 1:
        raise LabError(
            f"parameters are read by {series(sorted(readers))}, and it is not clear which cells "
            f"belong to which. Use one of them in a notebook. {_AGAIN} if one is deleted."
        )
    if broken := [name for cell in above for name in cell.broken]:
        raise LabError(
            f"the cell that sets {series(broken)} could not be run: its Python is not valid. "
            f"Correct it, run it, then run this cell again. {_AGAIN} if it is deleted."
        )
    _check_papermill(above, namespace)
    values = {}
    for name, assigned in _assigned(above).items():
        if name in namespace:
            values[name] = _current(name, assigned, namespace[name])
        elif assigned is not PERHAPS and not any(name in cell.deleted for cell in program):
            raise LabError(
                f"{name} is assigned in a cell above, but has no value: that cell did not "
                f"finish, or its magic command keeps its values. {_AGAIN}."
            )
    if any(cell.opaque for cell in above):
        values |= dict(_unseen(program, namespace))
    for name in _fields(readers, namespace) - values.keys():
        now = namespace.get(name, COMPUTED)
        stale = any(_equal(cell.dropped.get(name, PERHAPS), now) for cell in above)
        if now is not COMPUTED and not stale and not _of_lab(now):
            raise LabError(
                f"{name} is {_short_repr(now)}, but no assignment to it is known above this "
                f"cell. Assign it in the parameters cell. {_AGAIN} if that is done already."
            )
    if not values:
        raise LabError(
            "no parameters: nothing is assigned above this cell. Run the parameters cell first, "
            "then this one; for the defaults, set one parameter to its default."
        )
    return values


def _program(namespace: Mapping[str, Any]) -> tuple[list[Cell], list[Cell]]:
    """The notebook's cells, and those down to the call, in the order of execution."""
    history = [Cell(source) for source in namespace.get("In", ())]
    if history and history[-1].calls:
        return _last_runs(history, _fields({history[-1].reader}, namespace))
    # IPython's %run and `ipython notebook.ipynb` set __file__ and not In.
    path = Path(str(namespace.get("__file__", "")))
    cells = [Cell(source) for source in _sources(path)] if path.is_file() else []
    place = next((place for place, cell in enumerate(cells) if cell.calls), None)
    if place is None:
        where = f" ({path} is not found from {Path.cwd()})" if path.name and not cells else ""
        raise LabError(
            f"the source of this notebook is not known{where}, so its parameters are not either. "
            "Call notebook_parameters(globals()) directly in a cell, not in a function; elsewhere, "
            'give values to from_parameters: from_parameters({"seed": 1}).'
        )
    return cells, cells[: place + 1]


def _sources(path: Path) -> Iterator[str]:
    if path.suffix != ".ipynb":
        with tokenize.open(path) as file:
            yield file.read()
        return
    import nbformat

    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            yield cell.source


def _fields(readers: Iterable[str | None], namespace: Mapping[str, object]) -> set[str]:
    """Fields of the reading configurations, such as "lab.TrainConfig.from_parameters"."""
    found = set()
    for reader in filter(None, readers):
        first, *path, _ = reader.split(".")
        start: Any = namespace.get(first)
        config = reduce(lambda at, name: getattr(at, name, None), path, start)
        if dataclasses.is_dataclass(config):
            found |= {field.name for field in dataclasses.fields(config)}
    return found


def _last_runs(history: list[Cell], fields: set[str]) -> tuple[list[Cell], list[Cell]]:
    """The last run of each cell of a live kernel, and of those at or above the call.

    A kernel records sources, not positions. So an edited cell is recognised by its lines, and
    counts as above or below the call like its first run.
    """
    runs: list[Cell] = []
    above: list[Cell] = []
    reads = 0  # calls of notebook_parameters so far
    for cell in history:
        cell.reads = reads
        earlier = [run for run in runs if _same_cell(run, cell)]
        known = fields.union(*(run.assigned for run in above))
        again = cell.plain and known & cell.assigned.keys()
        if not reads or again or any(run in above for run in earlier):
            above.append(cell)
        for run in earlier:
            cell.dropped |= run.dropped | run.assigned
        runs = [run for run in [*runs, cell] if run not in earlier]
        above = [run for run in above if run not in earlier]
        reads += cell.calls
    if history[-1] not in above:  # its assignments before the call count
        above.append(history[-1])
    return runs, above


def _same_cell(earlier: Cell, later: Cell) -> bool:
    """Whether ``later`` is an edited version of ``earlier``, whose dropped names do not count."""
    if earlier.injected != later.injected or not later.lines:
        return False
    if earlier.broken and set(earlier.broken) <= later.assigned.keys():
        return True
    alike = 4 * len(earlier.lines & later.lines) >= len(earlier.lines) + len(later.lines)
    dropped = set(earlier.assigned) - set(later.assigned)
    if not alike or not dropped or earlier.reads < later.reads:
        return alike
    # Before the first reading it may be a second cell with lines copied from the first: only a
    # corrected spelling is certain.
    new = set(later.assigned) - set(earlier.assigned)
    return all(get_close_matches(name, new) for name in dropped)


def _assigned(cells: Iterable[Cell]) -> dict[str, object]:
    """Names and their last assignment: a literal's value, COMPUTED or PERHAPS."""
    found: dict[str, object] = {}
    for cell in cells:
        if cell.opaque:
            found = obscured(found)
        for name, value in cell.assigned.items():
            add(found, name, value)
    return found


def _current(name: str, assigned: object, now: object) -> object:
    if assigned in (COMPUTED, PERHAPS) or _equal(assigned, now):
        return now
    if _of_lab(now):
        return assigned  # a cell below uses the name for an object of the lab, such as backbone
    raise LabError(
        f"{name} is {_short_repr(assigned)} in the cell that sets it, but {_short_repr(now)} now: "
        "another cell has changed it. Run the cells from the parameters down to this one again, in "
        f"order; or: {_AGAIN.lower()}."
    )


def _check_papermill(cells: Iterable[Cell], namespace: Mapping[str, object]) -> None:
    for cell in cells:
        for name, given in cell.assigned.items() if cell.injected else ():
            if given not in (COMPUTED, PERHAPS) and not _equal(given, namespace.get(name)):
                raise LabError(
                    f"{name}: papermill's value {_short_repr(given)} was replaced by "
                    f"{_short_repr(namespace.get(name))} in a cell below papermill's. Papermill "
                    'puts its values below the first cell with the tag "parameters", or else on '
                    f"top: give that tag to the cell that sets {name}, or merge the cells that set "
                    "parameters into one with the tag."
                )


def _unseen(program: Iterable[Cell], namespace: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Values assigned by no known source, such as ``%run parameters.py`` or a star import."""
    known = [*program, *map(Cell, namespace.get("In", ()))]
    bound = {name for cell in known for name in cell.bound}
    shell = namespace.get("get_ipython", lambda: None)()
    bound.update(getattr(shell, "user_ns_hidden", ()))
    for name, value in namespace.items():
        items = value if isinstance(value, list | tuple) else [value]
        if not name.startswith("_") and name not in bound and all(map(_simple, items)):
            yield name, value


def _of_lab(value: object) -> bool:
    return type(value).__module__.partition(".")[0] == __name__.partition(".")[0]


def _simple(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str | os.PathLike)


def _equal(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other


def _short_repr(value: object) -> str:
    return shortened(repr(value), 80)
