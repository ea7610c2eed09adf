"""The one exception this package raises for bad input, and helpers to word it."""

import difflib
from collections.abc import Iterable


class LabError(ValueError):
    """Bad input: the message names it, says what was expected and what to do."""


def unknown(kind: str, name: object, known: Iterable[str]) -> LabError:
    """Error for a ``name`` that is not among the ``known`` ones, with the nearest of them."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return LabError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(known)}.")


def listing(items: Iterable[object], limit: int = 10) -> str:
    """``items`` one a line and indented, cut after ``limit`` with a count of the rest."""
    items = list(items)
    lines = [f"  {item}" for item in items[:limit]]
    if len(items) > limit:
        lines.append(f"  … and {len(items) - limit} more")
    return "\n".join(lines)
