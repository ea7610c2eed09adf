"""``docs/dependencies.md``: the pinned packages with the licences that their metadata name.

``python -m tools.dependencies requirements.txt > docs/dependencies.md``
"""

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from dpiqa_lab.core.errors import LabError

_HEAD = """\
# Dependencies and their licences

Every package that `requirements.txt` pins, with its version and the licence that its own metadata
name. Made by `python -m tools.dependencies requirements.txt > docs/dependencies.md`, after
the pins were installed. A GPU build of PyTorch on Linux brings NVIDIA's libraries along, which are
not pinned here and have NVIDIA's own terms.

| package | version | licence |
|---|---|---|
"""
_TROVE = "License :: "


def dependencies(requirements: Path) -> str:
    """The page for the pins in a requirements file.

    Raises:
        LabError: a pinned package is not installed, so that its licence is not known.
    """
    pins = re.findall(r"^([\w.-]+)==(\S+)$", requirements.read_text(encoding="utf-8"), re.M)
    rows = []
    for name, version in sorted(pins, key=lambda pin: pin[0].lower()):
        try:
            found = distribution(name)
        except PackageNotFoundError as error:
            raise LabError(f"{name} is not installed: pip install -r {requirements}.") from error
        rows.append(f"| {name} | {version} | {licence(found)} |\n")
    return _HEAD + "".join(rows)


def licence(package: Distribution) -> str:
    """The licence of a package: its metadata's expression, short text or class, else its file's."""
    found: Any = package.metadata  # a Message, whose type hides its methods
    text = found.get("License-Expression") or found.get("License") or ""
    text = "" if text == "UNKNOWN" else text
    if not text or len(text) > 80 or "\n" in text:
        classes = [line for line in found.get_all("Classifier") or [] if line.startswith(_TROVE)]
        names = [line.split(" :: ")[-1] for line in classes]
        text = ", ".join(name for name in names if name != "OSI Approved") or _first_line(text)
    text = text or _first_line(package.read_text("LICENSE") or "")
    return text.replace("|", "or").strip() or "not stated"


def _first_line(text: str) -> str:
    return next((line.strip()[:80] for line in text.splitlines() if line.strip()), "")


if __name__ == "__main__":
    print(dependencies(Path(sys.argv[1])), end="")
