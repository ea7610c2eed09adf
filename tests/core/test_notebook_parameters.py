"""What a notebook sets is what is read, however its cells are edited and it is started."""

import json
import subprocess
import sys

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import dpiqa_lab as lab
from dpiqa_lab import LabError
from dpiqa_lab.automation.notebook_runner import run_notebook
from tests.conftest import REPOSITORY

READ = "import dpiqa_lab as lab\n\nfound = lab.notebook_parameters(globals())"
PLAIN = "epochs = 30  # passes\nbatch_size = 16\nseed = 0\ndata_root = None\n"
MARK = "# Parameters: edit here\n"


def _of_03() -> str:
    """The parameters cell of notebook 03, two of its values edited."""
    notebook = nbformat.read(REPOSITORY / "notebooks" / "03_train.ipynb", as_version=4)
    (cell,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    edited = cell.source.replace("epochs = 30 ", "epochs = 3 ")
    return edited.replace('dataset = "demo"', 'dataset = "folder"')


SOURCE = _of_03()
EDITED: dict[str, object] = {}
exec(SOURCE, {}, EDITED)
BODY = SOURCE.split("\n", 1)[1]
HALF = SOURCE.index("# The model")


class Kernel:
    """An IPython shell as a kernel has it, without its processes."""

    def __init__(self):
        config = Config()
        config.HistoryManager.enabled = False
        self.shell = InteractiveShell(config=config, user_ns={})

    def run(self, *cells: str) -> None:
        for cell in cells:
            self.shell.run_cell(cell, store_history=True).raise_error()

    def read(self, *cells: str, by: str = READ) -> dict[str, object]:
        self.run(*cells, by)
        return self.shell.user_ns["found"]


@pytest.fixture
def kernel(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, ""])
    return Kernel()


def _write(path, *cells, tagged=0):
    made = [nbformat.v4.new_code_cell(source) for source in cells]
    if tagged is not None:
        made[tagged].metadata["tags"] = ["parameters"]
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": spec}), path)
    return path


def test_edited_values_are_those_of_the_edited_cell():
    assert (EDITED["epochs"], EDITED["dataset"], EDITED["seed"]) == (3, "folder", 0)
    assert len(EDITED) > 50


@pytest.mark.parametrize(
    "cells",
    [
        [SOURCE],
        ["# study of May\n" + SOURCE],
        ["\n\n" + SOURCE],
        ['"""Study of May."""\n' + SOURCE],
        [BODY],
        ["# My study of May\n" + BODY],
        ["# Parameters\n" + BODY],
        ["%%time\n" + SOURCE],
        ["%%capture\n%%time\n" + SOURCE],
        ["%precision 3\n" + SOURCE],
        ["!true\nimport os\n%time epochs = 1\n" + SOURCE],
        [SOURCE[:HALF], SOURCE[HALF:]],
        [SOURCE[:HALF], "", "# a note", SOURCE[HALF:]],
        [SOURCE.replace("epochs = 3 ", "epochs = 9 "), "epochs = 3"],
        [SOURCE.replace("epochs = 3 ", "epochs: int = 3 ")],
        [SOURCE.replace("epochs = 3 ", "epochs = 1\nepochs += 2 ")],
        [SOURCE, "if epochs > 5:\n    epochs = 5\n    checked = True"],
        [SOURCE.replace("epochs = 3 ", "epochs, seed = 3, 0 ")],
    ],
)
def test_an_edited_cell_is_read_right(kernel, cells):
    assert kernel.read(*cells) == EDITED


def test_a_parameters_cell_may_be_one_with_the_reading_cell(kernel):
    assert kernel.read(by=f"epochs = 3\n{READ}\nlater = 1") == {"epochs": 3}
    assert kernel.read(by=f"%%time\nepochs = 4\n{READ}\nlater = 2") == {"epochs": 4}
    assert kernel.read(by=f"epochs = 5\nrate = 1\n{READ}\nlater = 2") == {"epochs": 5, "rate": 1}


@pytest.mark.parametrize("how", ["%run study.py", "from study import *", "%run study.ipynb"])
def test_parameters_from_another_file_are_read(kernel, tmp_path, how):
    (tmp_path / "study.py").write_text("epochs = 3\nstepz = [1, 2]\n_own = 1\nobjects = [object()]")
    _write(tmp_path / "study.ipynb", "epochs = 3\nstepz = [1, 2]")
    sys.modules.pop("study", None)
    expected = {"epochs": 3, "batch_size": 16, "seed": 0, "data_root": None, "stepz": [1, 2]}
    assert kernel.read(PLAIN, how) == expected
    assert kernel.read("n = 5") == expected


def test_what_is_no_parameter_does_not_count(kernel):
    first = (
        "import os, json as js\nfrom pathlib import Path\n_own = 3\nfor i in range(3):\n    pass\n"
        "def f(y):\n    z = y\n    return z\nclass K:\n    w = 1\n"
        "squares = [k * k for k in range(3)]\nwith open(os.devnull) as file:\n    pass\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    pass\nf.label = 1\ndel squares"
    )
    assert kernel.read(first, PLAIN + "stepz = 7").keys() == {
        "epochs", "batch_size", "seed", "data_root", "stepz",
    }  # fmt: skip


def test_values_of_any_kind_are_those_in_force(kernel):
    cell = 'a = None\nb = [1, "x"]\nc = -1.5\nd = 8 * 8\ne = True\nf = Path("x")\ng = h = 2'
    found = kernel.read("from pathlib import Path", cell)
    assert {**found, "f": str(found["f"])} == {
        "a": None, "b": [1, "x"], "c": -1.5, "d": 64, "e": True, "f": "x", "g": 2, "h": 2,
    }  # fmt: skip


def test_unknown_names_are_refused_by_a_configuration(kernel):
    config = "config = lab.ProbeConfig.from_parameters(found)"
    with pytest.raises(LabError, match=r"unknown parameter 'split_sed'.*Did you mean 'split_seed'"):
        kernel.run('dataset = "demo"', "split_sed = 3", READ, config)
    kernel.run("del split_sed", READ, config)


# A kernel in which cells run more than once.


def test_cells_below_do_not_count_when_the_reading_cell_runs_again(kernel):
    first = kernel.read(PLAIN)
    kernel.run("n = 5", "run = object()\nfor seeds in range(3):\n    x = seeds", "%time y = 2")
    assert kernel.read() == first
    assert kernel.read("import os\n%precision 3\nz = 3") == first


def test_an_object_of_the_lab_below_does_not_hide_a_parameter(kernel):
    first = kernel.read('backbone = "auto"\nseed = 1')
    assert (
        kernel.read("backbone = lab.datasets.QualityDataset.__new__(lab.datasets.QualityDataset)")
        == first
    )


def test_a_cell_that_runs_again_replaces_its_last_run(kernel):
    first = kernel.read(MARK + PLAIN + "stepz = 1\n")
    assert "stepz" in first
    kernel.run("summary = 1", MARK + PLAIN.replace("30", "4") + "steps = 2\n")
    corrected = {"epochs": 4, "batch_size": 16, "seed": 0, "data_root": None, "steps": 2}
    assert kernel.read() == corrected
    assert kernel.read(MARK + PLAIN.replace("30", "4")).keys() == corrected.keys() - {"steps"}
    assert kernel.read("%%time\n" + PLAIN.replace("30", "6"))["epochs"] == 6
    assert kernel.read("%%time\n" + PLAIN.replace("30", "8 * 8"))["epochs"] == 64


def test_a_cell_without_its_comments_replaces_its_last_run(kernel):
    assert "data_root" in kernel.read("epochs = 3  # passes\nseed = 1  # of all\ndata_root = None")
    assert kernel.read("epochs = 3\nseed = 1") == {"epochs": 3, "seed": 1}


def test_a_spelling_corrected_before_the_first_reading_replaces_the_old_one(kernel):
    assert kernel.read(MARK + "stepz = 1", MARK + "steps = 2") == {"steps": 2}


def test_a_part_of_the_cell_copied_below_it_replaces_no_other_value(kernel):
    edited = PLAIN.replace("data_root = None", 'data_root = "mine"')
    expected = {"epochs": 30, "batch_size": 16, "seed": 0, "data_root": "mine"}
    assert kernel.read(edited, edited.split("data_root")[0]) == expected


def test_a_half_that_runs_again_keeps_the_other_half(kernel):
    kernel.read(SOURCE[:HALF], SOURCE[HALF:])
    again = SOURCE[HALF:].replace("epochs = 3 ", "epochs = 5 ")
    assert kernel.read("n = 5", again) == {**EDITED, "epochs": 5}
    assert kernel.read("seed = 9") == {**EDITED, "epochs": 5, "seed": 9}
    assert kernel.read(SOURCE[:HALF], SOURCE[HALF:]) == EDITED


def test_all_cells_run_again_after_edits(kernel):
    notebook = [PLAIN, READ, "n = 5\nrun = 1", "summary = found"]
    kernel.run(*notebook)
    notebook[0] = "# mine\n" + PLAIN.replace("seed = 0", "seed = 4")
    kernel.run(*notebook)
    assert kernel.shell.user_ns["found"] == {
        "epochs": 30, "batch_size": 16, "seed": 4, "data_root": None,
    }  # fmt: skip


# What cannot be known for certain.


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([], "nothing is assigned above this cell"),
        (["import os\n_own = 1"], "nothing is assigned above this cell"),
        (
            ["%%timeit -n 1 -r 1\nepochs = 3"],
            "epochs is assigned in a cell above, but has no value",
        ),
        (["%%writefile x.py\nepochs = 3"], "epochs is assigned in a cell above, but has no value"),
        ([PLAIN, READ, "for seed in range(3):\n    pass"], "seed is 0 in the cell .* but 2 now"),
        ([PLAIN, READ, "seed = int('7')"], "seed is 0 in the cell that sets it, but 7 now"),
        (["epochs = 3", "%%timeit -n 1 -r 1\nepochs = 4"], "epochs is 4 in the cell .* but 3 now"),
        ([PLAIN, "def read():\n    return lab.notebook_parameters(globals())"], None),
        (["# Parameters\nseed = 5\n", PLAIN], "seed: papermill's value 5 was replaced by 0"),
        ([PLAIN, "# Parameters\nseed = 5\n", "seed = 6"], "papermill's value 5 was replaced by 6"),
        (["# Parameters\nseed = True\n", "seed = 1"], "papermill's value True was replaced by 1"),
    ],
)
def test_what_is_uncertain_is_refused_by_name(kernel, cells, message):
    if message is None:
        message, reading = "Call notebook_parameters.* directly in a cell", "found = read()"
        cells = ["import dpiqa_lab as lab", *cells]
    else:
        reading = READ
    with pytest.raises(LabError, match=message):
        kernel.read(*cells, by=reading)


@pytest.mark.parametrize(
    "failing", ["epochs = 4\nseed = = 3", "batch_size = 1 / 0\nepochs = 4", "epochs = (4"]
)
def test_a_cell_that_failed_is_refused_until_it_is_corrected(kernel, failing):
    kernel.shell.run_cell(failing, store_history=True)
    with pytest.raises(
        LabError, match=r"sets epochs(, seed)? could not be run|batch_size is assigned"
    ):
        kernel.read()
    assert kernel.read("epochs = 4\nbatch_size = 1\nseed = 3")["epochs"] == 4


def test_a_field_set_below_or_out_of_sight_is_no_default(kernel):
    """The configuration's fields are known by the reader."""
    config = "config = lab.ProbeConfig.from_parameters(lab.notebook_parameters(globals()))"

    def seeds():
        kernel.run(config)
        return kernel.shell.user_ns["config"].seed

    kernel.run("import dpiqa_lab as lab", "splits = 2")
    assert seeds() == 0
    kernel.run("seed = 5", "n = 3")
    assert seeds() == 5
    kernel.run("for split_seed in range(7):\n    pass")
    with pytest.raises(LabError, match="split_seed is 6, but no assignment to it is known above"):
        kernel.run(config)
    kernel.run("split_seed = 4")
    assert seeds() == 5
    kernel.run("# mine\nshown = 2\nfactors = 'blur'\nworkers = 0", config, "# mine\nshown = 2")
    assert seeds() == 5
    assert kernel.shell.user_ns["config"].factors == lab.ProbeConfig().factors


def test_two_configurations_in_one_notebook_are_refused(kernel):
    one = "found = dict.from_parameters(lab.notebook_parameters(globals()))"
    kernel.run("import dpiqa_lab as lab\nclass A:\n    from_parameters = dict\nB = A", "epochs = 1")
    assert "epochs" in kernel.read(by=one.replace("dict.", "A."))
    with pytest.raises(LabError, match=r"read by A\.from_parameters, B\.from_parameters"):
        kernel.run("rate = 2", one.replace("dict.", "B."))


# Ways to start a notebook.


@pytest.mark.parametrize("injected", ["# Parameters\nseed = 5\nlayers = [1, 2]\nmode = None\n"])
def test_papermills_cell_below_the_parameters_counts(kernel, injected):
    expected = {"epochs": 30, "batch_size": 16, "data_root": None}
    assert kernel.read(PLAIN, injected) == {
        **expected, "seed": 5, "layers": [1, 2], "mode": None,
    }  # fmt: skip


def test_run_reads_the_notebooks_own_cells(kernel, tmp_path):
    path = _write(tmp_path / "03.ipynb", "%%time\n" + PLAIN + "stepz = 1", READ, "n = 5\nseed = 8")
    kernel.run("x = 3\nepochs = 99", "seed = 4\n%run 03.ipynb")
    expected = {"epochs": 30, "batch_size": 16, "seed": 0, "data_root": None}
    assert kernel.shell.user_ns["found"] == {**expected, "stepz": 1}
    kernel.run("%run 03.ipynb")
    assert kernel.shell.user_ns["found"] == {**expected, "stepz": 1}
    _write(path, PLAIN, "%precision 3", READ, "n = 6")
    kernel.run("%run 03.ipynb")
    assert kernel.shell.user_ns["found"] == expected


STARTED = (PLAIN[: PLAIN.index("seed")], PLAIN[PLAIN.index("seed") :], READ)
SHOW = "import json\n\nprint(json.dumps(found))\nn = 5"
EXPECTED = {"epochs": 30, "batch_size": 16, "seed": 0, "data_root": None}


def _started(folder, *words):
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.medium
def test_ipython_on_a_notebook_reads_its_cells(tmp_path):
    _write(tmp_path / "a.ipynb", "%%time\n" + STARTED[0], *STARTED[1:], SHOW)
    assert json.loads(_started(tmp_path, "IPython", "a.ipynb").splitlines()[-1]) == EXPECTED


@pytest.mark.medium
def test_a_script_by_nbconvert_reads_what_is_above_the_call(tmp_path):
    _write(tmp_path / "a.ipynb", *STARTED, SHOW)
    _started(tmp_path, "nbconvert", "--to", "python", "a.ipynb")
    assert json.loads(_started(tmp_path, "a")) == EXPECTED
    assert json.loads(_started(tmp_path, "IPython", "a.py")) == EXPECTED


@pytest.mark.medium
def test_papermill_without_the_tag_is_refused_where_its_value_is_lost(tmp_path):
    path = _write(tmp_path / "a.ipynb", *STARTED, SHOW, tagged=1)
    run_notebook(path, tmp_path / "out.ipynb", seed=5, epochs=30, stepz=[1, None])
    (output,) = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1].outputs
    assert json.loads(output.text) == {**EXPECTED, "seed": 5, "stepz": [1, None]}
    _write(path, *STARTED, SHOW, tagged=None)
    with pytest.raises(LabError, match=r"seed: papermill's value 5 was replaced by 0"):
        run_notebook(path, tmp_path / "out.ipynb", seed=5)


def test_without_a_source_nothing_is_guessed(kernel, tmp_path):
    _write(tmp_path / "a.ipynb", PLAIN, "import os\nos.chdir('/')", READ)
    with pytest.raises(LabError, match=r"not known \(a\.ipynb is not found from /\)"):
        kernel.run("%run a.ipynb")
    with pytest.raises(LabError, match="the source of this notebook is not known"):
        lab.notebook_parameters({"epochs": 3})
