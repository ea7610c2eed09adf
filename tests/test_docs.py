"""The pages in ``docs/`` are followed: their code runs as it stands, what they name is there."""

import re
import shutil
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
from typer.main import get_command

from dpiqa_lab.cli import app
from dpiqa_lab.datasets.specs import SPECS
from dpiqa_lab.diffusion.presets import PRESETS
from tests.conftest import REPOSITORY, photographs
from tests.support.trees import write_pictures
from tools.dependencies import dependencies

DOCS = REPOSITORY / "docs"


def follow(page):
    """Run a page's Python blocks one after the other in one namespace, which is returned."""
    text = (DOCS / page).read_text(encoding="utf-8")
    namespace = {}
    blocks = re.findall(r"^( *)```python\n(.*?)^ *```", text, re.M | re.S)
    assert blocks
    for indent, block in blocks:
        code = re.sub(f"^{indent}", "", block, flags=re.M)
        exec(compile(code, page, "exec"), namespace)
    return namespace


def test_a_dataset_is_added_as_its_page_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SPECS, "mine", None)  # taken back afterwards
    names = [f"{i}.jpg" for i in range(30)]
    write_pictures(tmp_path / "data" / "mine", [f"pictures/{name}" for name in names])
    parts = ["train"] * 21 + ["val"] * 3 + ["test"] * 6
    table = pd.DataFrame({"file": names, "opinion": np.linspace(1, 5, 30), "part": parts})
    table.to_csv(tmp_path / "data" / "mine" / "opinions.csv", index=False)
    dataset = follow("add_a_dataset.md")["dataset"]
    assert len(dataset) == 6
    assert dataset[5]["mos"] == 1.0
    assert "error" not in capsys.readouterr().out


def test_a_backbone_is_added_as_its_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRESETS, "mine", None)
    shutil.copytree(REPOSITORY / "data" / "tiny_prior", tmp_path / "my_model")
    made = follow("add_a_backbone.md")
    assert made["latents"].shape == made["noise"].shape == (2, 4, 8, 8)
    assert not made["backbone"].record["random_weights"]
    assert made["teacher"].quality_feature_decoder.regressor.fc3.in_features >= 64


def test_a_decoder_is_added_as_its_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path / "photos", 30).to_csv(tmp_path / "photos" / "scores.csv", index=False)
    losses = follow("add_a_decoder.md")["losses"]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda path: path.stem)
def test_what_a_page_names_is_there(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (DOCS / target).is_file(), target
    for path in re.findall(r"`((?:dpiqa_lab|tests|notebooks)/[\w/.]+)`", text):
        assert (REPOSITORY / path).is_file(), path
    for name in re.findall(r"notebook `(\w+)`", text):
        assert (REPOSITORY / "notebooks" / f"{name}.ipynb").is_file(), name
    for name in re.findall(r"(?:python -m dpiqa_lab|`dpiqa|^dpiqa) ([a-z][\w-]*)", text, re.M):
        assert name in get_command(app).commands, name


def test_the_dependencies_page_is_that_of_the_pins():
    page = (DOCS / "dependencies.md").read_text(encoding="utf-8")
    assert page == dependencies(REPOSITORY / "requirements.txt")
    assert f"| torch | {version('torch').split('+')[0]} | " in page
    assert not re.search(r"\| not stated \||\| UNKNOWN \|", page)
