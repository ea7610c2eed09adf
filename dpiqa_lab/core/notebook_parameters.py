"""The parameters that a notebook sets, however its cells are edited and however it is started.

No mark or tag is looked for. Whatever is assigned above the call of ``notebook_parameters`` is a
parameter, unless its name starts with an underscore. The names come from the source of the program
(``cells.py``), the values from the namespace.
"""

import dataclasses
import os
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import reduce
from pathlib import Path

from .cells import COMPUTED, PERHAPS, Cell, add, obscured
from .errors import LabError, series, shortened
from .extras import check_extras

_AGAIN = "Restart the kernel and run all cells"


def notebook_parameters(namespace: Mapping[str, object]) -> dict[str, object]:
    """Names and values of what is assigned above the call, to be checked by a configuration.

    It works in Jupyter, in papermill, by IPython's ``%run notebook.ipynb`` or ``ipython
    notebook.ipynb``, and in a script that nbconvert made. Imports, loop variables, functions, names
    that start with an underscore and the variables of cells below the call do not count. Any other
    name does, known or not, so that a configuration can refuse the unknown ones.

    In a kernel where cells ran more than once, the last run of each counts. A cell that first ran
    after the parameters were read is one of those below, unless it does nothing but give
    parameters values.

    Args:
        namespace: the notebook's ``globals()``.

    Raises:
        LabError: the values cannot be known for certain: no source, nothing assigned above, a value
            that differs from what its cell assigns, or that papermill did not get through; or a
            package that notebooks need is not installed.
    """
    check_extras("notebooks", "train")
    program, above = _program(namespace)
    readers = {cell.reader for cell in program if cell.reader}
    if len(readers) > 1:
        raise LabError(
            f"parameters are read by {series(sorted(readers))}, and it is not clear which cells "
            f"belong to which. Use one of them in a notebook. {_AGAIN} where one is deleted."
        )
    if broken := [name for cell in above for name in cell.broken]:
        raise LabError(
            f"the cell that sets {series(broken)} could not be run: its Python is not valid. "
            f"Correct it, run it, then run this cell again. {_AGAIN} where it is deleted."
        )
    _check_papermill(above, namespace)
    values = {}
    for name, assigned in _assigned(above).items():
        if name in namespace:
            values[name] = _in_force(name, assigned, namespace[name])
        elif assigned is not PERHAPS and not any(name in cell.deleted for cell in program):
            raise LabError(
                f"{name} is assigned in a cell above, but has no value: that cell did not run to "
                f"its end, or the magic command at its top keeps its values. {_AGAIN}."
            )
    if any(cell.opaque for cell in above):
        values |= dict(_unseen(program, namespace))
    for name in _fields(readers, namespace) - values.keys():
        now = namespace.get(name, COMPUTED)
        stale = any(_equal(cell.dropped.get(name, PERHAPS), now) for cell in above)
        if now is not COMPUTED and not stale and not _of_lab(now):
            raise LabError(
                f"{name} is {_shown(now)}, but no assignment to it is known above this "
                f"cell. Assign it in the parameters cell. {_AGAIN} where that is done already."
            )
    if not values:
        raise LabError(
            "no parameters: nothing is assigned above this cell. Run the parameters cell first, "
            "then this one; for the defaults, set one parameter to its default."
        )
    return values


def _program(namespace: Mapping[str, object]) -> tuple[list[Cell], list[Cell]]:
    """The notebook's cells, and those of them down to the call, in the order of their runs."""
    history = [Cell(source) for source in namespace.get("In", ())]
    if history and history[-1].calls:
        return _last_runs(history, _fields({history[-1].reader}, namespace))
    # IPython's %run and `ipython notebook.ipynb` leave In as it was, but set __file__.
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
    """The fields of the configurations that read, as "lab.TrainConfig.from_parameters" does."""
    found = set()
    for reader in filter(None, readers):
        first, *path, _ = reader.split(".")
        read_by = reduce(lambda at, name: getattr(at, name, None), path, namespace.get(first))
        if dataclasses.is_dataclass(read_by):
            found |= {field.name for field in dataclasses.fields(read_by)}
    return found


def _last_runs(history: list[Cell], fields: set[str]) -> tuple[list[Cell], list[Cell]]:
    """The last run of each cell of a live kernel, and of those at or above the call.

    A kernel keeps what ran, not where it is in the notebook. So a cell edited and run again is
    recognised by its lines, and has the place of its first run: above the call or below.
    """
    runs: list[Cell] = []
    above: list[Cell] = []
    reads = 0  # how often parameters have been read
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
    if history[-1] not in above:  # what a cell sets before its call is above it
        above.append(history[-1])
    return runs, above


def _same_cell(earlier: Cell, later: Cell) -> bool:
    """Whether ``later`` is a cell that ran before, edited; names that it dropped are forgotten."""
    if earlier.injected != later.injected or not later.lines:
        return False
    if earlier.broken and set(earlier.broken) <= later.assigned.keys():
        return True
    alike = 4 * len(earlier.lines & later.lines) >= len(earlier.lines) + len(later.lines)
    dropped = set(earlier.assigned) - set(later.assigned)
    if not alike or not dropped or earlier.reads < later.reads:
        return alike
    # Before the first reading it may as well be a second cell, a part of the first one copied: only
    # a corrected spelling is certain.
    new = set(later.assigned) - set(earlier.assigned)
    return all(get_close_matches(name, new) for name in dropped)


def _assigned(cells: Iterable[Cell]) -> dict[str, object]:
    """Names and what is assigned to them last: a literal's value, COMPUTED or PERHAPS."""
    found: dict[str, object] = {}
    for cell in cells:
        if cell.opaque:
            found = obscured(found)
        for name, value in cell.assigned.items():
            add(found, name, value)
    return found


def _in_force(name: str, assigned, now):
    if assigned in (COMPUTED, PERHAPS) or _equal(assigned, now):
        return now
    if _of_lab(now):
        return assigned  # a cell below uses the name for one of the lab's objects, as backbone
    raise LabError(
        f"{name} is {_shown(assigned)} in the cell that sets it, but {_shown(now)} now: another "
        "cell has changed it. Run the cells from the parameters down to this one again, in order; "
        f"or: {_AGAIN.lower()}."
    )


def _check_papermill(cells: Iterable[Cell], namespace: Mapping[str, object]) -> None:
    for cell in cells:
        for name, given in cell.assigned.items() if cell.injected else ():
            if given not in (COMPUTED, PERHAPS) and not _equal(given, namespace.get(name)):
                raise LabError(
                    f"{name}: papermill's value {_shown(given)} was replaced by "
                    f"{_shown(namespace.get(name))} in a cell below papermill's. Papermill puts "
                    'its values below the first cell with the tag "parameters", or else on top: '
                    f"give that tag to the cell that sets {name}, or merge the cells that set "
                    "parameters into one with the tag."
                )


def _unseen(program: Iterable[Cell], namespace: Mapping[str, object]):
    """Values that no known source assigns, as by ``%run parameters.py`` or a star import."""
    known = [*program, *map(Cell, namespace.get("In", ()))]
    bound = {name for cell in known for name in cell.bound}
    shell = namespace.get("get_ipython", lambda: None)()
    bound.update(getattr(shell, "user_ns_hidden", ()))
    for name, value in namespace.items():
        items = value if isinstance(value, list | tuple) else [value]
        if not name.startswith("_") and name not in bound and all(map(_simple, items)):
            yield name, value


def _of_lab(value) -> bool:
    return type(value).__module__.partition(".")[0] == __name__.partition(".")[0]


def _simple(value) -> bool:
    return value is None or isinstance(value, bool | int | float | str | os.PathLike)


def _equal(one, other) -> bool:
    return type(one) is type(other) and one == other


def _shown(value) -> str:
    return shortened(repr(value), 80)
