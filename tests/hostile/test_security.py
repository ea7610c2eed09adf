"""Nothing that comes from a file, a name or a hub is run, and pages show names as text."""

import ast
import os
import re
import shlex
import subprocess
import types

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from torch import nn

import dpiqa_lab as lab
from dpiqa_lab.__main__ import main
from dpiqa_lab.core.runs import Run
from dpiqa_lab.diffusion.presets import PRESETS
from dpiqa_lab.explorer import figures
from dpiqa_lab.explorer.explore_config import ExploreConfig
from dpiqa_lab.models.transformers_trunk import load_hub_model
from dpiqa_lab.models.trunks import TRUNKS, load_trunk
from dpiqa_lab.viz import experiment_figures, gallery
from dpiqa_lab.viz.contact_sheet import contact_sheet
from tests.conftest import REPOSITORY
from tests.support.pages import Page

EVIL = "<script>alert(1)</script>.jpg"
PWN = "a'; touch pwned; $(touch pwned) `touch pwned` \" & touch pwned\n#"


def _calls():
    """Every call in the package: file, dotted name of what is called, its keywords."""
    for path in sorted((REPOSITORY / "dpiqa_lab").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                yield path.relative_to(REPOSITORY), ast.unparse(node.func), keywords


def test_no_call_in_the_package_runs_what_a_file_or_a_name_holds():
    seen = set()
    for path, name, keywords in _calls():
        last = name.split(".")[-1]
        seen.add(name)
        assert name not in ("eval", "exec", "os.system", "os.popen", "__import__"), path
        # Workers get their items through Dask, whose own messages are pickles of the same command.
        if path.name != "dask_cluster.py":
            assert not re.search(r"pickle\.loads?$|joblib\.load$|dill|marshal", name), path
        assert last not in ("read_pickle", "Unpickler", "literal_run"), path
        assert not {"shell", "trust_remote_code"} & set(keywords), path
        if name == "torch.load":
            assert keywords["weights_only"] == "True", path
        if name == "np.load":
            assert keywords["allow_pickle"] == "False", path
        if name == "Image.open" and path.name == "images.py":
            assert keywords["formats"] == "_FORMATS", path
        if last in ("from_pretrained", "hf_hub_download") and "Config" not in name:
            local = {"prior_run.py", "image_adapter.py"}  # folders of the lab's own
            pinned = "revision" in keywords or "options" in keywords.get(None, "")
            assert pinned or path.name in local, (path, name)
    assert {"torch.load", "np.load", "Image.open", "subprocess.run"} <= seen


def test_hub_downloads_are_pinned_or_say_what_they_took(monkeypatch):
    for preset in PRESETS.values():
        if preset.download:
            assert re.fullmatch(r"[0-9a-f]{40}", preset.revision)
            assert re.fullmatch(r"[0-9a-f]{40}", preset.text_revision)
    for name, trunk in TRUNKS.items():
        assert trunk.revision is None or re.fullmatch(r"[0-9a-f]{40}", trunk.revision), name

    asked = []

    def from_pretrained(source, revision, **options):
        assert options["use_safetensors"] is True
        asked.append((source, revision))
        config = types.SimpleNamespace(_commit_hash="c0ffee", model_type="other")
        return types.SimpleNamespace(config=config, state_dict=dict), {"missing_keys": []}

    monkeypatch.setattr("transformers.AutoModel.from_pretrained", from_pretrained)
    with pytest.warns(UserWarning, match="newest revision, c0ffee.*hub@c0ffee"):
        load_hub_model("someone/trunk")
    for weights in ("hub", "hub@abc"):
        load_trunk(nn.Identity(), "dinov2_small", weights)
    assert [revision for _, revision in asked] == [None, TRUNKS["dinov2_small"].revision, "abc"]
    with pytest.warns(UserWarning, match="newest revision"), pytest.raises(lab.LabError):
        lab.load_backbone("nobody/nothing")


def test_an_exported_command_is_one_command_in_a_shell(tmp_path):
    config = ExploreConfig.from_parameters(
        {"dataset": "folder", "data_root": str(tmp_path / PWN), "photograph": PWN, "device": "cpu",
         "backbone": "tiny", "mos_column": PWN}
    )  # fmt: skip
    stand_in = tmp_path / "bin" / "papermill"
    stand_in.parent.mkdir()
    stand_in.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\" > given\n")
    stand_in.chmod(0o755)
    environment = {**os.environ, "PATH": f"{stand_in.parent}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", config.command()], cwd=tmp_path, env=environment, check=True)
    words = (tmp_path / "given").read_text().split("\0")[:-1]
    assert words == shlex.split(config.command())[1:]
    assert words.count(PWN) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "given"]


def test_the_command_that_convert_suggests_is_quoted(tmp_path, monkeypatch, capsys):
    run = Run(tmp_path / "x; touch pwned", {"kind": "student"}, "completed")
    run.checkpoints.mkdir(parents=True)
    monkeypatch.setattr("dpiqa_lab.training.conversion.convert", lambda *given: run)
    assert main(["convert", "a.pth", str(run.path)]) == 0
    command = re.search(r"Score by: (.*) <photographs>", capsys.readouterr().out)[1]
    assert shlex.split(command)[-1] == str(run.path)


def _table(**columns):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"name": [EVIL] * 8, "mos": rng.random(8), "score": rng.random(8)})
    return table.assign(split="test", **columns)


FIGURES = {
    "scatter": lambda: lab.figures.predicted_against_mos(_table()),
    "splits": lambda: lab.figures.predicted_against_mos(_table().assign(split=EVIL)),
    "two scores": lambda: experiment_figures.two_scores(
        _table(**{EVIL: 0.5}), EVIL, "score", "title"
    ),
    "variants": lambda: experiment_figures.variant_intervals(
        pd.DataFrame({"variant": [EVIL], "srcc": [0.5], "srcc_low": [0.4], "srcc_high": [0.6]}),
        "title",
    ),
    "explorer": lambda: figures.points(_table(x=0.5), "x", EVIL),
    "runs": lambda: figures.against(_table(score_a=0.5, score_b=0.6), EVIL, EVIL, EVIL),
}


def _texts(value):
    """Every text in a figure that a browser shows: not the data that clicks hand back."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in ("customdata", "source", "legendgroup"):
                yield from _texts(item)
    elif isinstance(value, list | tuple | np.ndarray):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize("kind", FIGURES)
def test_figures_show_names_as_text(kind, tmp_path):
    figure = FIGURES[kind]()
    texts = list(_texts(figure.to_plotly_json()))
    assert not [text for text in texts if "<script" in text]
    assert any("&lt;script&gt;alert(1)" in text for text in texts)
    page = Page(lab.figures.save(figure, tmp_path, "x").read_text(encoding="utf-8"))
    assert not [script for script in page.scripts if script.strip().startswith("alert")]


def test_sheets_and_galleries_show_names_as_text(tmp_path):
    evil = EVIL.replace("/", "\u2215")  # a name on the disk has no slash
    Image.new("RGB", (8, 8)).save(tmp_path / evil)
    table = pd.DataFrame({"name": [evil], "path": [tmp_path / evil], "mos": [0.5], "score": [0.5]})
    texts = list(_texts(contact_sheet(table, "title").to_plotly_json()))
    assert not [text for text in texts if "<script" in text]
    shown = gallery.write_gallery(table, path=tmp_path / "g.html")
    page = Page((tmp_path / "g.html").read_text(encoding="utf-8"))
    assert len(page.scripts) == 1
    assert evil in "".join(page.outside)
    assert "<script" not in shown.data
