"""The exception for bad input, and helpers for its messages."""

import difflib
import re
from collections.abc import Iterable

# Control characters, line separators and marks of writing direction, which in a name could clear a
# terminal or disguise the text.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_LONGEST = 300  # characters of a name in a message


class LabError(ValueError):
    """Bad input: the message names it, what was expected and what to do.

    Control characters in the message, except ends of lines, are escaped.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__("\n".join(plain(line) for line in str(message).split("\n")))


def plain(text: object) -> str:
    """``text`` as one line for any terminal or file, with other characters escaped."""
    text = str(text).encode("utf-8", "backslashreplace").decode("utf-8")
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def shortened(text: object, limit: int = _LONGEST) -> str:
    """``plain(text)``, cut in the middle if longer than ``limit``."""
    text = plain(text)
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]} … {text[-half:]}"


def unknown(kind: str, name: object, known: Iterable[str]) -> LabError:
    """Error for a ``name`` that is not ``known``, with the nearest known one."""
    known = sorted(known)
    near = difflib.get_close_matches(shortened(name), known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return LabError(f"unknown {kind} {shortened(repr(name))}.{hint} Known: {series(known)}.")


def series(names: Iterable[object], limit: int = 60) -> str:
    """``names`` separated by commas, cut after ``limit`` with a count of the rest."""
    texts = [shortened(name, 80) for name in names]
    rest = f" and {len(texts) - limit:,} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + rest


def listing(items: Iterable[object], limit: int = 10) -> str:
    """``items`` one per line, indented, cut after ``limit`` with a count of the rest."""
    items = list(items)
    lines = [f"  {shortened(item)}" for item in items[:limit]]
    if len(items) > limit:
        lines.append(f"  … and {len(items) - limit} more")
    return "\n".join(lines)
