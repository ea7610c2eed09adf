"""The command line itself: pairs of words, exit codes, usage errors, cache, changed inputs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.main import get_command

from dpiqa_lab.cli import app, main
from dpiqa_lab.core.cache import RowCache
from dpiqa_lab.core.command_line import literal, values
from dpiqa_lab.core.files import write_json
from dpiqa_lab.core.runs import find_run
from tests.conftest import photographs


def _parameters(*words):
    name, *others = words
    return get_command(app).commands[name].make_context(name, others).params


def test_pairs_are_two_words_each_and_may_be_repeated():
    words = ["-p", "dataset", "koniq", "-p", "seed", "-1", "-g", "timestep", "1,10", "-g", "x", "a"]
    for given in (["n.ipynb", *words], [*words, "n.ipynb"]):
        parsed = _parameters("sweep", *given)
        assert parsed["notebook"] == Path("n.ipynb")
        assert values(parsed["parameter"]) == {"dataset": "koniq", "seed": -1}
        assert parsed["grid"] == [("timestep", "1,10"), ("x", "a")]
    assert values(_parameters("train", "teacher")["parameter"]) == {}


def test_values_are_literals_or_text():
    texts = ("3", "1e-4", "None", "True", "1,5", "a b", "__import__('os')", "(" * 500)
    assert [literal(text) for text in texts] == [3, 1e-4, None, True, (1, 5), *texts[5:]]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nothing"],
        ["train"],
        ["train", "teachers"],
        ["train", "teacher", "-p", "dataset"],
        ["score"],
        ["score", "a.png", "--batch-size", "many"],
        ["sweep", "n.ipynb"],
        ["runs", "--unknown"],
    ],
)
def test_errors_of_usage_end_with_2_and_a_message_without_traceback(words, capsys):
    assert main(words) == 2
    out, message = capsys.readouterr()
    assert out == ""
    assert "Error: " in message
    assert "Traceback" not in message


def test_bad_input_is_a_line_on_stderr(capsys):
    assert main(["train", "teacher", "-p", "datset", "koniq"]) == 2
    out, message = capsys.readouterr()
    assert out == ""
    assert message.startswith("error: unknown parameter 'datset'. Did you mean 'dataset'?")
    assert "Traceback" not in message


def test_the_module_gives_the_exit_code_of_main():
    program = [sys.executable, "-m", "dpiqa_lab"]
    for words, code in ((["--version"], 0), (["score", "a", "--cluster", "x"], 2), ([], 2)):
        assert subprocess.run([*program, *words], capture_output=True).returncode == code


def test_a_photograph_that_cannot_be_read_is_left_to_the_scoring(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert _parameters("score", str(path))["photographs"] == [path]


def test_the_command_line_starts_without_heavy_imports():
    code = (
        "import sys, dpiqa_lab; print('typer' in sys.modules)\n"
        "import dpiqa_lab.cli; dpiqa_lab.cli.main(['--version'])\n"
        "print(*({'torch', 'pandas', 'numpy', 'rich'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    first, version, heavy = result.stdout.split("\n")[:3]
    assert (first, heavy, result.stderr) == ("False", "", "")
    assert version.startswith("dpiqa-lab ")


def test_the_cache_is_listed_and_cleared_by_kind(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DPIQA_HOME", str(tmp_path))
    assert main(["cache"]) == 0
    assert capsys.readouterr().out == f"entries: 0, 0.0 MB in {tmp_path / 'cache'}\n"
    for kind, columns in (("latents", 500_000), ("features", 250_000)):
        RowCache(kind, {"a": 1}).rows(["x"], lambda _, n=columns: {"row": torch.ones(1, n)})
    assert main(["cache", "list"]) == 0
    head, features, latents, total = capsys.readouterr().out.splitlines()
    assert head.split() == ["kind", "entry", "MB"]
    assert [features.split()[0], features.split()[2]] == ["features", "1.0"]
    assert [latents.split()[0], latents.split()[2]] == ["latents", "2.0"]
    assert total.startswith("entries: 2, 3.0 MB")
    assert main(["cache", "clear", "latent"]) == 2
    assert "Did you mean 'latents'?" in capsys.readouterr().err
    assert main(["cache", "clear", "latents"]) == 0
    assert capsys.readouterr().out.startswith("entries deleted: 1, 2.0 MB")
    assert main(["cache", "list", "features"]) == 0
    assert "entries: 1, 1.0 MB" in capsys.readouterr().out
    assert main(["cache", "clear"]) == 0
    assert main(["cache"]) == 0
    assert "entries: 0, 0.0 MB" in capsys.readouterr().out


@pytest.mark.medium
def test_a_run_s_changed_inputs_are_listed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DPIQA_HOME", str(tmp_path))
    table = photographs(tmp_path / "photos", 24)
    table.to_csv(tmp_path / "photos" / "scores.csv", index=False)
    given = {
        "dataset": "folder", "data_root": tmp_path / "photos", "labels": "scores.csv",
        "mos_range": "0,100", "device": "cpu", "image_size": 64, "backbone": "tiny",
        "decoder_width": 8, "batch_size": 4, "max_steps": 1, "run_name": "small",
    }  # fmt: skip
    words = [word for name, value in given.items() for word in ("-p", name, str(value))]
    assert main(["train", "teacher", *words]) == 0
    assert main(["runs", "--check", "small"]) == 0
    assert capsys.readouterr().out.endswith("nothing has changed\n")
    (photo,) = (tmp_path / "photos" / name for name in table["name"][:1])
    photo.write_bytes(b"")
    table.iloc[1:].to_csv(tmp_path / "photos" / "scores.csv", index=False)
    assert main(["runs", "--check", "small"]) == 1
    assert "1 photographs removed" in capsys.readouterr().out
    identity = find_run("small").path / "identity.json"
    write_json(identity, {"kind": "PriorConfig"})
    assert main(["runs", "--check", "small"]) == 2
    assert "was made by PriorConfig, not by " in capsys.readouterr().err
