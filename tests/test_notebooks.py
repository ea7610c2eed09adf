"""Notebooks through papermill, from a folder that is not the repository's, on a small folder."""

import os
import subprocess
import sys

import nbformat
import pytest

from dpiqa_lab.core.runs import find_run
from tests.conftest import REPOSITORY
from tests.training.test_training import QUICK

NOTEBOOK = REPOSITORY / "notebooks" / "03_train.ipynb"


def _papermill(folder, **parameters):
    pairs = [part for name, value in parameters.items() for part in ("-p", name, str(value))]
    return subprocess.run(
        [sys.executable, "-m", "papermill", NOTEBOOK, "out.ipynb", *pairs, "--no-progress-bar"],
        cwd=folder, capture_output=True, text=True, timeout=300, env=os.environ,
    )  # fmt: skip


def test_03_trains_from_any_folder_and_shows_its_figures(small_folder, tmp_path):
    options = {**QUICK, "data_root": "photos", "max_steps": 4, "run_name": "by_papermill"}
    result = _papermill(tmp_path, **options)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Unable to parse" not in result.stderr
    run = find_run("by_papermill")
    assert run.summary()["status"] == "completed"
    names = {path.name for path in run.figures.iterdir()}
    assert names == {
        "training_curves.html", "predicted_against_mos.html", "best.html", "worst.html",
        "most_wrong.html",
    }  # fmt: skip
    notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    assert kinds.count("application/vnd.plotly.v1+json") == 5
    text = str(notebook)
    assert "ridge on simple statistics" in text
    assert "RANDOM" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.ipynb", "photos"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epoch": 3}, "unknown parameter 'epoch'. Did you mean 'epochs'?"),
        ({"timestep": "early"}, "timestep must be int, got 'early'"),
    ],
)
def test_03_refuses_wrong_parameters_before_any_work(tmp_path, wrong, message):
    result = _papermill(tmp_path, **wrong)
    assert result.returncode != 0
    assert message in result.stderr
