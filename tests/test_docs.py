"""The pages in ``docs/`` are followed: their code runs as it stands, what they name is there."""

import re
import shutil
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
from typer.main import get_command

from dpiqa_lab._renamed import RENAMED
from dpiqa_lab.cli import app
from dpiqa_lab.core import config as parameters
from dpiqa_lab.datasets.specs import SPECS
from dpiqa_lab.diffusion.presets import PRESETS
from tests.conftest import REPOSITORY, photographs
from tests.support.api import public_names
from tests.support.trees import write_pictures
from tools.dependencies import dependencies

DOCS = REPOSITORY / "docs"
PAGES = [
    *sorted(REPOSITORY.glob("*.md")),
    *sorted((REPOSITORY / "data").glob("*/README.md")),
    *sorted(DOCS.rglob("*.md")),
]


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


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_what_a_page_names_is_there(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (page.parent / target).is_file(), target
    for path in re.findall(r"`((?:dpiqa_lab|tests|notebooks)/[\w/.]+)`", text):
        assert (REPOSITORY / path).exists(), path
    for name in re.findall(r"notebook `(\w+)`", text):
        assert list((REPOSITORY / "notebooks").glob(f"{name}*.ipynb")), name
    for name in re.findall(r"(?:python -m dpiqa_lab|`dpiqa|^dpiqa) ([a-z][\w-]*)", text, re.M):
        assert name in get_command(app).commands, name


def test_the_dependencies_page_is_that_of_the_pins():
    page = (DOCS / "dependencies.md").read_text(encoding="utf-8")
    assert page == dependencies(REPOSITORY / "requirements.txt")
    assert f"| torch | {version('torch').split('+')[0]} | " in page
    assert not re.search(r"\| not stated \||\| UNKNOWN \|", page)


def test_the_readme_is_short_and_shows_the_lab_at_work():
    lines = (REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 130
    assert (DOCS / "img" / "working.png").stat().st_size <= 300_000


def test_every_page_of_the_site_is_in_its_navigation():
    text = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    listed = sorted(re.findall(r": ([\w/]+\.md)$", text, re.M))
    assert listed == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_the_api_page_has_every_public_name():
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^::: dpiqa_lab\.([\w.]+)$", page, re.M))
    assert listed == {*public_names(), "metrics", "viz.figures"} - {"figures"}


def test_results_stand_in_the_readme_as_in_their_pages():
    """A row of the short table is one of the full ones: no number of its own."""
    full = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "results").glob("*.md"))
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"\| (0\.\d+ \(.*?\) \| .*?) \|$", readme, re.M)
    assert len(rows) >= 5
    assert not [row for row in rows if row not in full]


@pytest.mark.parametrize("renamed", [RENAMED, parameters.RENAMED], ids=["names", "parameters"])
def test_every_new_name_is_in_the_changelog(renamed):
    text = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    for old, new in renamed.items():
        assert f"| `{old}` | `{new}` |" in text
