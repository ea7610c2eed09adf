"""Which photographs are meant by a folder, a list or names: anyone's, without scores."""

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..core.errors import LabError
from ..core.paths import user_path
from .images import SUFFIXES

LISTS = {".txt", ".csv", ".tsv"}


class Found(NamedTuple):
    """A photograph: ``name`` in tables (relative to the sources' folder, UTF-8) and ``path``."""

    name: str
    path: Path


def find_photographs(sources: Path | str | Sequence[Path | str]) -> tuple[Path, list[Found]]:
    """The folder that names are relative to, and the photographs, each once, in a stable order.

    Args:
        sources: a folder (all photographs in it and its sub-folders, in the order of their names),
            a list of paths (``.txt``: one a line; ``.csv``, ``.tsv``: column ``path`` or ``name``,
            else the first; relative ones start at the list's folder), photographs, or several of
            these. Names are relative to the folder or the list's folder where there is one source,
            else to the current folder. Links to folders are followed, each folder is visited once.

    Returns:
        Folder and photographs. Whether these can be read is not looked at, a folder that may not
        be listed stands for the photographs in it. Bytes of a name that are no UTF-8 are written
        as ``\\udce9`` in ``name``.

    Raises:
        LabError: there are none, a folder or list is missing or no list, or two files would have
            one name.
    """
    if isinstance(sources, str | Path):
        sources = [sources]
    sources = [user_path(source) for source in sources]
    base = Path.cwd()
    if len(sources) == 1:
        if sources[0].is_dir():
            base = sources[0]
        elif sources[0].suffix.lower() in LISTS:
            base = sources[0].parent
    paths = [path for source in sources for path in _expand(source)]
    found = {}
    for path in paths:
        name = as_utf8(_relative(path, base))
        if found.setdefault(name, path) != path:
            raise LabError(f"two files are called {name!r}: {found[name]!s} and {path!s}.")
    if not found:
        raise LabError(
            f"no photographs in {', '.join(map(str, sources))}: expected a folder with "
            f"{', '.join(sorted(SUFFIXES))} files, a .txt or .csv list of paths, or photographs."
        )
    return base.resolve(), [Found(name, path) for name, path in found.items()]


def _expand(source: Path) -> Iterable[Path]:
    if source.is_dir():
        return sorted(_walk(source), key=lambda path: path.relative_to(source).as_posix())
    if source.suffix.lower() in LISTS:
        return [_on_disk(source.parent, entry) for entry in _listed(source)]
    if not source.exists() and source.suffix.lower() not in SUFFIXES:
        raise LabError(f"{source}: no such folder, list or photograph.")
    return [source]


def _walk(folder: Path) -> Iterator[Path]:
    """Photographs under a folder; real sub-folders first, then what links lead to elsewhere."""
    root = os.path.realpath(folder)
    seen, waiting = set(), [str(folder)]
    unlisted: list[str] = []
    while waiting:
        for place, folders, files in os.walk(
            waiting.pop(0), onerror=lambda error: unlisted.append(error.filename)
        ):
            real = os.path.realpath(place)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            links = [os.path.join(place, name) for name in sorted(folders)]
            # One that leads to a folder around this one would take in what nobody asked for.
            waiting += [path for path in links if os.path.islink(path) and not _holds(path, root)]
            yield from (Path(place, f) for f in files if Path(f).suffix.lower() in SUFFIXES)
    yield from map(Path, unlisted)


def _holds(path: str, root: str) -> bool:
    real = os.path.realpath(path)
    return os.path.commonpath([real, root]) == real


def _listed(path: Path) -> list[str]:
    """The entries of a list file, as they stand there."""
    try:
        # Bytes that are no UTF-8 are kept, as they are in names on the disk.
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            if path.suffix.lower() == ".txt":
                return [line for line in file.read().replace("\r\n", "\n").split("\n") if line]
            first = file.readline()
            file.seek(0)
            separator = max(",;\t", key=first.count)
            rows = [row for row in csv.reader(file, delimiter=separator) if any(row)]
    except (OSError, csv.Error) as error:
        raise LabError(f"{path}: not a readable list of photographs ({error}).") from error
    if not rows:
        return []
    names = [cell.strip().lower() for cell in rows[0]]
    column = next((names.index(name) for name in ("path", "name") if name in names), 0)
    headed = Path(names[column]).suffix not in SUFFIXES
    short = [i for i, row in enumerate(rows, 1) if len(row) <= column or not row[column]]
    if short:
        raise LabError(f"{path}: row {short[0]} has no {names[column]!r} ({len(short)} such rows).")
    return [row[column] for row in rows[headed:]]


def _on_disk(folder: Path, entry: str) -> Path:
    """An entry's path; its bytes are read as Latin-1 where only so a file is there."""
    path = folder / entry
    if entry.isascii():
        return path
    latin = folder / entry.encode("utf-8", "surrogateescape").decode("latin-1")
    # Unlike Path.exists these say no of a name that no file can have.
    return latin if not os.path.exists(path) and os.path.exists(latin) else path


def _relative(path: Path, base: Path) -> str:
    try:
        return path.relative_to(base).as_posix()
    except ValueError:
        return path.as_posix()


def as_utf8(text: str) -> str:
    """``text`` with what cannot be written as UTF-8, bytes in a name, as ``\\udce9``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
