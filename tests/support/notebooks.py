"""Notebooks as a shell runs them."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat

from tests.conftest import REPOSITORY


def command(notebook="03_train", path=None, **parameters):
    pairs = [part for name, value in parameters.items() for part in ("-p", name, str(value))]
    path = path or REPOSITORY / "notebooks" / f"{notebook}.ipynb"
    return [sys.executable, "-m", "papermill", path, "out.ipynb", *pairs, "--no-progress-bar"]


def solved(notebook, folder):
    """A copy of a notebook with the hidden solution of its exercise as a last cell to run."""
    opened = nbformat.read(REPOSITORY / "notebooks" / f"{notebook}.ipynb", as_version=4)
    (text,) = [cell.source for cell in opened.cells if cell.source.startswith("## Exercise")]
    assert "<details><summary>Solution</summary>" in text
    solution = text.split("```python\n")[1].split("```")[0].strip()
    opened.cells.append(nbformat.v4.new_code_cell(solution))
    path = folder.with_name(f"{folder.name}-solved") / f"{notebook}.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(opened, path)
    return path


def papermill(folder, notebook="03_train", **parameters):
    return subprocess.run(
        command(notebook, solved(notebook, folder), **parameters),
        cwd=folder, capture_output=True, text=True, timeout=900, env=os.environ,
    )  # fmt: skip


def small_notebook(path: Path, parameters: str, work: str) -> Path:
    """``path``, a notebook of two cells: parameters, and what is done with them."""
    cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    cells.append(nbformat.v4.new_code_cell(work))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)
    return path
