"""Finds images from folders, lists and paths; no scores are involved."""

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
    """An image: ``name`` in tables (relative to the sources' folder, UTF-8) and ``path``."""

    name: str
    path: Path


def find_photographs(sources: Path | str | Sequence[Path | str]) -> tuple[Path, list[Found]]:
    """The folder to which names are relative, and the images, each once, in a stable order.

    Args:
        sources: a folder (all images in it and its sub-folders, sorted by path), a list of paths
            (``.txt``: one per line; ``.csv``, ``.tsv``: column ``path`` or ``name``, else the
            first; relative to the list's folder), images, or several of these. Names are relative
            to the folder or the list's folder if there is one source, else to the current folder.
            Links to folders are followed; each folder is visited once.

    Returns:
        Folder and images. Files are not opened; a folder that cannot be listed is returned in
        place of its images. Bytes of a name that are not UTF-8 appear as ``\\udce9`` in ``name``.

    Raises:
        LabError: no images, a missing folder or list, an unreadable list, or two files of one name.
    """
    given = [sources] if isinstance(sources, str | Path) else sources
    roots = [user_path(source) for source in given]
    base = Path.cwd()
    if len(roots) == 1:
        if roots[0].is_dir():
            base = roots[0]
        elif roots[0].suffix.lower() in LISTS:
            base = roots[0].parent
    paths = [path for root in roots for path in _expand(root)]
    found: dict[str, Path] = {}
    for path in paths:
        name = as_utf8(_relative(path, base))
        if found.setdefault(name, path) != path:
            raise LabError(f"two files are called {name!r}: {found[name]!s} and {path!s}.")
    if not found:
        raise LabError(
            f"no photographs in {', '.join(map(str, roots))}: expected a folder with "
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
    """Images under a folder; real sub-folders first, then linked folders elsewhere."""
    root = os.path.realpath(folder)
    seen: set[str] = set()
    waiting = [str(folder)]
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
            links = (Path(place, name) for name in sorted(folders))
            # A link to an enclosing folder would include files outside the source.
            waiting += [str(p) for p in links if p.is_symlink() and not _contains(p, root)]
            yield from (Path(place, f) for f in files if Path(f).suffix.lower() in SUFFIXES)
    yield from map(Path, unlisted)


def _contains(path: Path, root: str) -> bool:
    real = os.path.realpath(path)
    return os.path.commonpath([real, root]) == real


def _listed(path: Path) -> list[str]:
    """The entries of a list file, unchanged."""
    try:
        # Bytes that are not UTF-8 are preserved, as in names on the disk.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
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
    """An entry's path; its bytes are read as Latin-1 if only that file exists."""
    path = folder / entry
    if entry.isascii():
        return path
    latin = folder / entry.encode("utf-8", "surrogateescape").decode("latin-1")
    # Unlike Path.exists, os.path.exists returns False for a name that no file can have.
    exists = os.path.exists
    return latin if not exists(path) and exists(latin) else path


def _relative(path: Path, base: Path) -> str:
    try:
        return path.relative_to(base).as_posix()
    except ValueError:
        return path.as_posix()


def as_utf8(text: str) -> str:
    """``text`` with characters that UTF-8 cannot encode (bytes of a name) as ``\\udce9``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
