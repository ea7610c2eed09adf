"""The repository itself: pins, notebooks, documentation and imports hold together."""

import dataclasses
import inspect
import re
import subprocess
import sys
import time
import tomllib
from itertools import chain
from statistics import median

import nbformat
import pytest
import yaml

import dpiqa_lab as lab
from dpiqa_lab._renamed import RENAMED
from dpiqa_lab.core import config as parameters
from dpiqa_lab.datasets.specs import SPECS
from tests.conftest import REPOSITORY
from tests.support.api import public_names
from tests.support.configs import CONFIGS

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


def _name(requirement):
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=\[ ]", requirement)[0]).lower()


def _pins():
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    rows = [line for line in lines if line and not line.startswith("#")]
    assert all("==" in row for row in rows)
    return dict(row.lower().replace("_", "-").split("==") for row in rows)


def test_every_dependency_is_pinned_at_or_above_its_bound():
    from packaging.version import Version

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    pins = {_name(name): version for name, version in _pins().items()}
    for requirement in chain(project["dependencies"], *project["optional-dependencies"].values()):
        if requirement.startswith("dpiqa-lab["):  # other extras
            continue
        bound = requirement.split(">=")[1]
        assert Version(pins[_name(requirement)]) >= Version(bound), requirement
    assert pins["torch"] == "2.13.0"


def test_conda_users_get_the_same_pins():
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert pip == {"pip": ["-r requirements.txt", "-e ."]}
    assert conda == ["python=3.11", "pip"]


def test_installed_versions_are_the_pinned_ones():
    from importlib.metadata import version

    for name in ("torch", "diffusers", "transformers", "numpy", "pandas", "plotly"):
        assert version(name).split("+")[0] == _pins()[name]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_clean_and_thin(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    for cell in code:
        assert not re.search(r"^\s*(class |!|%pip)|sys\.path|/home/|/root/", cell.source, re.M)


@pytest.mark.parametrize(("notebook", "config"), CONFIGS.items())
def test_notebooks_offer_every_parameter_and_no_other(notebook, config):
    notebook = nbformat.read(REPOSITORY / "notebooks" / f"{notebook}.ipynb", as_version=4)
    (cell,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    namespace = {}
    exec(cell.source, namespace)  # literals only
    offered = {name: value for name, value in namespace.items() if not name.startswith("__")}
    assert set(offered) == {field.name for field in dataclasses.fields(config)}
    assert config(**offered) == config()
    assert all("#" in line for line in cell.source.splitlines() if "=" in line)


def test_data_readme_names_every_dataset_and_its_count():
    text = (REPOSITORY / "data" / "README.md").read_text()
    for name, spec in SPECS.items():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{name}`")]
        assert spec.count is None or f"{spec.count:,}" in row


def test_import_loads_nothing_heavy():
    heavy = "torch diffusers transformers plotly sklearn skimage pandas numpy ipywidgets accelerate"
    code = f"import sys, dpiqa_lab; print(*(m for m in '{heavy}'.split() if m in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout.strip(), result.stderr) == ("", "")


@pytest.mark.medium
def test_what_a_first_use_loads_is_what_it_needs():
    """Completion and metrics load no network's library; a dataset and a model no figures."""
    code = (
        "import sys, dpiqa_lab as lab; assert 'load_model' in dir(lab) and 'metrics' in dir(lab)\n"
        "assert lab.metrics.srcc([1, 2, 3], [1, 2, 3]) == 1\n"
        "print('diffusers' in sys.modules, 'plotly' in sys.modules)\n"
        "lab.load_dataset, lab.Student, lab.load_model\n"
        "print('plotly' in sys.modules, 'ipywidgets' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr == ""
    assert result.stdout.split() == ["False"] * 4


@pytest.mark.slow
def test_the_package_is_imported_as_fast_as_torch():
    """Fresh interpreters take turns; the medians are compared. 1.3 is the promise."""
    seconds = {"torch": [], "dpiqa_lab": []}
    for _ in range(5):
        for module, taken in seconds.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
            taken.append(time.perf_counter() - began)
    assert median(seconds["dpiqa_lab"]) <= 1.3 * median(seconds["torch"])


def test_every_public_name_resolves_to_what_it_says():
    assert len(lab.__all__) <= 30
    for name, found in public_names().items():
        assert not inspect.ismodule(found) or name in ("metrics", "figures", "viz.figures"), name
    with pytest.raises(AttributeError):
        _ = lab.nothing


@pytest.mark.parametrize("name", RENAMED)
def test_names_of_the_last_version_are_refused_with_the_new_one(name):
    with pytest.raises(AttributeError, match=rf"is called dpiqa_lab\.{RENAMED[name]} now"):
        getattr(lab, name)
    assert RENAMED[name] in public_names()


@pytest.mark.parametrize("name", parameters.RENAMED)
def test_parameters_of_the_last_version_are_refused_with_the_new_one(name):
    new = parameters.RENAMED[name]
    having = [config for config in CONFIGS.values() if new in config.__dataclass_fields__]
    assert having
    for config in having:
        if name not in config.__dataclass_fields__:
            with pytest.raises(lab.LabError, match=f"{name!r} is called {new!r} now"):
                config.from_parameters({name: 1})
