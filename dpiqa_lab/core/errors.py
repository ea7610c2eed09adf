"""The one exception this package raises for bad input, and helpers to word it."""

import difflib
import re
from collections.abc import Iterable

# Control characters, line separators and marks that turn the direction of writing: in a name they
# could clear a terminal, or show what is not there.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_LONGEST = 300  # characters of a name in a message


class LabError(ValueError):
    """Bad input: the message names it, says what was expected and what to do.

    Control characters in the message, but for ends of lines, are shown as escapes.
    """

    def __init__(self, message: object = ""):
        super().__init__("\n".join(plain(line) for line in str(message).split("\n")))


def plain(text: object) -> str:
    """``text`` as one line that any terminal and file can take: the rest of it as escapes."""
    text = str(text).encode("utf-8", "backslashreplace").decode("utf-8")
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def shortened(text: object, limit: int = _LONGEST) -> str:
    """``text`` as ``plain``, and cut in its middle where it is longer than ``limit``."""
    text = plain(text)
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]} … {text[-half:]}"


def unknown(kind: str, name: object, known: Iterable[str]) -> LabError:
    """Error for a ``name`` that is not among the ``known`` ones, with the nearest of them."""
    known = sorted(known)
    near = difflib.get_close_matches(shortened(name), known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return LabError(f"unknown {kind} {shortened(repr(name))}.{hint} Known: {series(known)}.")


def series(names: Iterable[object], limit: int = 60) -> str:
    """``names`` in a row, with commas, cut after ``limit`` with a count of the rest."""
    names = [shortened(name, 80) for name in names]
    rest = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest


def listing(items: Iterable[object], limit: int = 10) -> str:
    """``items`` one a line and indented, cut after ``limit`` with a count of the rest."""
    items = list(items)
    lines = [f"  {shortened(item)}" for item in items[:limit]]
    if len(items) > limit:
        lines.append(f"  … and {len(items) - limit} more")
    return "\n".join(lines)
