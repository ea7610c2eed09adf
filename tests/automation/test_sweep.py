"""A grid of runs of a small notebook that fails where it is told to."""

import nbformat
import pandas as pd
import pytest

from dpiqa_lab.__main__ import main
from dpiqa_lab.automation.sweep import run_sweep
from dpiqa_lab.core.errors import LabError
from dpiqa_lab.core.paths import runs_dir
from tests.support.notebooks import small_notebook

PARAMETERS = "# Parameters:\nx = 1  # a number\nbase = 0.0  # added\nrun_name = None  # a folder"
WORK = """
import json, os, pathlib
home = pathlib.Path(os.environ["DPIQA_HOME"])
with open(home / "log.txt", "a") as log:
    log.write(f"{x} ")
if x == 2 and not (home / "mended").exists():
    raise ValueError("two is broken")
folder = home / "runs" / run_name
folder.mkdir(parents=True)
test = {"n": 3, "srcc": base + x / 10, "plcc": 0.5}
(folder / "summary.json").write_text(json.dumps({"metrics": {"test": test}}))
"""


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    monkeypatch.setenv("DPIQA_HOME", str(tmp_path))
    return small_notebook(tmp_path / "small.ipynb", PARAMETERS, WORK)


@pytest.mark.medium
def test_a_failure_ends_nothing_and_only_what_is_open_runs_again(notebook, tmp_path, capsys):
    words = ["sweep", str(notebook), "-p", "base", "0.5", "-g", "x", "1,2", "--name", "small"]
    assert main(words) == 2
    said = capsys.readouterr()
    assert "two is broken" in said.out
    assert "1 of 2 runs failed" in said.err
    table = pd.read_csv(runs_dir() / "small" / "sweep.csv")
    assert table["status"].tolist() == ["completed", "failed"]
    assert table["srcc"].tolist()[:1] == [0.6]
    assert "two is broken" in table["error"][1]
    assert main(words) == 2
    assert (tmp_path / "log.txt").read_text().split() == ["1", "2", "2"]
    (tmp_path / "mended").touch()
    table = run_sweep(notebook, {"x": [1, 2, 3]}, {"base": 0.5}, "small")
    assert (tmp_path / "log.txt").read_text().split() == ["1", "2", "2", "2", "3"]
    assert table["srcc"].tolist() == [0.6, 0.7, 0.8]
    assert table["run"].nunique() == 3
    assert len(list((runs_dir() / "small").glob("*.ipynb"))) == 3
    with pytest.raises(LabError, match="made with other parameters"):
        run_sweep(notebook, {"x": [1]}, {"base": 0.6}, "small")


@pytest.mark.parametrize(
    ("grid", "shared", "message"),
    [
        ({"y": [1]}, {}, r"unknown parameter of the notebook 'y'.*base, run_name, x"),
        ({"x": [1]}, {"bas": 1}, "Did you mean 'base'"),
        ({"x": [1]}, {"x": 2}, "x: given both"),
        ({"x": []}, {}, "grid is empty"),
        ({"x": [1, 1]}, {}, "x: a value of the grid is given twice"),
        ({"x": [1]}, {"run_name": "a"}, "a sweep names its runs itself"),
    ],
)
def test_what_cannot_work_is_refused_before_any_run(notebook, grid, shared, message):
    with pytest.raises(LabError, match=message):
        run_sweep(notebook, grid, shared)
    assert not runs_dir().exists()


def test_a_notebook_that_is_not_there_is_named(tmp_path):
    with pytest.raises(LabError, match=r"no notebook .*none\.ipynb"):
        run_sweep(tmp_path / "none.ipynb", {"x": [1]})


def test_a_notebook_without_the_tag_is_refused(notebook):
    opened = nbformat.read(notebook, as_version=4)
    for cell in opened.cells:
        cell.metadata["tags"] = []
    nbformat.write(opened, notebook)
    with pytest.raises(LabError, match=r'no cell of .* has the tag "parameters"'):
        run_sweep(notebook, {"x": [1]})
