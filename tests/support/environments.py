"""Environments that hold a part of what is installed here."""

from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def link_dependencies(name: str, site: Path) -> None:
    """Link into ``site`` all that ``name``, installed there, requires without its extras."""
    (metadata,) = site.glob(f"{name}-*.dist-info")
    for required in sorted(_closure(Distribution.at(metadata).requires or [])):
        found = distribution(required)
        tops = {Path(str(file)).parts[0] for file in found.files or ()}
        for top in tops - {"..", "__pycache__"}:
            source = Path(str(found.locate_file(top)))
            if source.exists() and not (site / top).exists():
                (site / top).symlink_to(source)


def _closure(lines: list[str]) -> set[str]:
    found: set[str] = set()
    waiting, seen = [(line, "") for line in lines], set()
    while waiting:
        line, extra = waiting.pop()
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in {"", *requirement.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, wanted))
            try:
                more = distribution(name).requires or []
            except PackageNotFoundError:  # for another platform
                continue
            found.add(name)
            waiting += [(line, wanted) for line in more]
    return found
