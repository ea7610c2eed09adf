import re
import tomllib

import pytest

from dpiqa_lab.core.errors import LabError
from dpiqa_lab.core.extras import EXTRAS, check_extras, explained
from tests.conftest import REPOSITORY

# Names of packages on the index that are imported by another one.
INDEX = {"skimage": "scikit-image", "IPython": "jupyterlab", "nbformat": "jupyterlab"}


def test_extras_are_those_of_the_package():
    text = (REPOSITORY / "pyproject.toml").read_text()
    given = tomllib.loads(text)["project"]["optional-dependencies"]
    for extra, packages in EXTRAS.items():
        named = {re.match(r"[\w-]+", line)[0] for line in given[extra]}
        assert {INDEX.get(package, package) for package in packages} <= named, extra


def test_a_package_that_is_not_there_is_named_with_its_extra(monkeypatch):
    check_extras(*EXTRAS)
    for extra, (package, *_) in EXTRAS.items():
        missing = ModuleNotFoundError(f"No module named {package!r}", name=f"{package}.inner")
        expected = rf"{package} is not installed: pip install 'dpiqa-lab\[{extra}\]'"
        with pytest.raises(LabError, match=expected), explained():
            raise missing
    with pytest.raises(ModuleNotFoundError), explained():
        raise ModuleNotFoundError("No module named 'other'", name="other")
    monkeypatch.setattr("dpiqa_lab.core.extras.find_spec", {"openpyxl": 1}.get)
    with pytest.raises(
        LabError, match=r"skimage is not installed: pip install 'dpiqa-lab\[train\]'"
    ):
        check_extras("train")
