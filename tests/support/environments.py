"""Environments that hold a part of what is installed here."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def link_dependencies(name: str, site: Path) -> None:
    """Link into ``site`` all that the distribution ``name`` requires, without its extras."""
    for required in sorted(_closure(name)):
        found = distribution(required)
        tops = {Path(str(file)).parts[0] for file in found.files or ()}
        for top in tops - {"..", "__pycache__"}:
            source = Path(str(found.locate_file(top)))
            if source.exists() and not (site / top).exists():
                (site / top).symlink_to(source)


def _closure(name: str) -> set[str]:
    found: set[str] = set()
    waiting = [(name, frozenset[str]())]
    seen = set()
    while waiting:
        current, extras = waiting.pop()
        if (current, extras) in seen:
            continue
        seen.add((current, extras))
        try:
            lines = distribution(current).requires or []
        except PackageNotFoundError:  # for another platform
            continue
        found.add(current)
        for requirement in map(Requirement, lines):
            if requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in (extras or {""})
            ):
                waiting.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return found - {name}
