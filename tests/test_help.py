"""What a newcomer asks for help: the command line, and each public name."""

import inspect

import pytest
from typer.main import get_command

import dpiqa_lab as lab
from dpiqa_lab.__main__ import main
from dpiqa_lab.cli import app
from tests.support.api import public_names


def _shown(capsys, *words):
    assert main([*words]) == 0
    return capsys.readouterr().out


def test_the_command_line_says_its_version_and_commands(capsys):
    assert _shown(capsys, "--version") == f"dpiqa-lab {lab.__version__}\n"
    said = _shown(capsys, "-h")
    assert "``" not in said
    for command in ("demo", "check", "score", "sweep"):
        assert f"\n  {command} " in said


@pytest.mark.parametrize("command", sorted(get_command(app).commands))
def test_each_command_says_what_it_does(capsys, command):
    said = _shown(capsys, command, "-h").split("\n\n")[1].strip()
    assert said[0].isupper()
    assert said.endswith(".")


PUBLIC = public_names()


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_has_a_docstring(name):
    assert inspect.getdoc(PUBLIC[name])


@pytest.mark.parametrize("name", [name for name in PUBLIC if name.endswith("Config")])
def test_each_config_says_what_its_fields_mean(name):
    config = PUBLIC[name]
    told = inspect.getdoc(config)
    assert "Attributes:" in told
    assert ":  (default" not in told


def test_an_interrupted_command_says_that_it_goes_on(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("dpiqa_lab.core.runs.list_runs", interrupted)
    assert main(["runs"]) == 130
    assert "run the same command again" in capsys.readouterr().err
