"""Detects files that changed since something was computed from them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from .errors import LabError, listing
from .files import file_hash, stamp


class Content(NamedTuple):
    """A file's SHA-256, and its ``stamp`` as text, which saves reading an unchanged file.

    Both are empty if the file could not be read.
    """

    sha256: str = ""
    stamp: str = ""


def content_of(path: Path) -> Content:
    """Present content of a file."""
    try:
        numbers = stamp(path)  # first: a change after it makes it stale
        return Content(file_hash(path), json.dumps(numbers) if numbers else "")
    except OSError:
        return Content()


def refuse_changed(files: Iterable[tuple[str, Path, Content]], what: str) -> None:
    """Check that files are unchanged; only those with another stamp are read.

    Args:
        files: name, path and recorded content of each. what: was computed, and what to do.

    Raises:
        LabError: existing files have other content; they are listed.
    """
    changed = [name for name, path, known in files if path.is_file() and not _same(path, known)]
    if changed:
        count = f"{len(changed):,} photographs have changed since"
        raise LabError(f"{count} {what}:\n{listing(changed)}")


def _same(path: Path, known: Content) -> bool:
    numbers = stamp(path)
    if numbers and json.dumps(numbers) == known.stamp:
        return True
    return content_of(path).sha256 == known.sha256
