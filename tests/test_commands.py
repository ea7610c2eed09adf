"""Every command that the documentation shows is parsed as it would be, without running it."""

import json
import re
import shlex
from importlib.util import find_spec
from itertools import pairwise

import click
import papermill
import pytest
import typer
import yaml
from papermill.cli import papermill as papermill_command
from typer.main import get_command

from dpiqa_lab.cli import app
from dpiqa_lab.core.command_line import values
from dpiqa_lab.experiments.component_ablation_config import ComponentsConfig
from dpiqa_lab.training.student_config import DistillConfig
from dpiqa_lab.training.teacher_config import TrainConfig
from tests.conftest import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *sorted((REPOSITORY / "data").glob("**/README.md")),
    *NOTEBOOKS,
]
OURS = re.compile(
    r"(?:^|[\s/\\])python -m dpiqa_lab(?=\s|$)|^accelerate launch .*?-m dpiqa_lab(?=\s|$)"
    r"|(?:^|[/\\])dpiqa(?=\s)"
)


def _text(path):
    """A page, or the text cells of a notebook."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def _code(text):
    """What stands as code: lines of blocks, joined where they go on, and spans in running text."""
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S):
        yield from block.replace("\\\n", " ").splitlines()
    running = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    for span in re.findall(r"`([^`]+)`", running):
        yield " ".join(span.split())


def _commands(pattern):
    for path in PAGES:
        for code in _code(_text(path)):
            if found := re.search(pattern, code):
                words = shlex.split(code[found.end() :], comments=True)
                yield pytest.param(words, id=f"{path.stem}: {code[:90]}")


def _parsed(words):
    """The command's name and its arguments, without running it."""
    name, *others = words
    return name, get_command(app).commands[name].make_context(name, others).params


def _check_notebook(path, names):
    if path == "NOTEBOOK":  # stands for any
        return
    assert (REPOSITORY / path).is_file(), path
    known = papermill.inspect_notebook(str(REPOSITORY / path))
    assert set(names) <= known.keys(), set(names) - known.keys()


@pytest.mark.parametrize("words", _commands(OURS))
def test_a_command_of_the_lab_is_one(words):
    if words in ([], ["--help"]):
        return
    command, arguments = _parsed(words)
    given = values(arguments.get("parameter"))
    if command == "sweep":
        names = {*given, *(name for name, _ in arguments["grid"])}
        _check_notebook(str(arguments["notebook"]), names)
    elif given:
        student = arguments.get("what") == "student"
        (DistillConfig if student else TrainConfig)(**given)


@pytest.mark.parametrize("words", _commands(r"^papermill(?=\s)"))
def test_a_papermill_command_fits_its_notebook(words):
    parsed = papermill_command.make_context("papermill", words).params
    names = [name for name, _ in parsed["parameters"] + parsed["parameters_raw"]]
    for text in parsed["parameters_yaml"]:
        names += yaml.safe_load(text)
    assert names
    assert parsed["output_path"] == "out.ipynb"
    _check_notebook(parsed["notebook_path"], names)


@pytest.mark.parametrize("words", _commands(r"python -m (?=dpiqa_lab\.)"))
def test_a_module_that_is_run_is_there(words):
    assert find_spec(words[0])


@pytest.mark.parametrize("words", _commands(r"^(?=-p )"))
def test_parameters_that_stand_alone_are_some_config_s(words):
    names = {name for option, name in pairwise(words) if option == "-p"}
    configs = (TrainConfig, DistillConfig, ComponentsConfig)
    assert names <= {name for config in configs for name in config.__dataclass_fields__}


def test_commands_are_found():
    """The tests above are of something, and refuse what this lab once showed."""
    assert len(list(_commands(OURS))) > 25
    assert len(list(_commands(r"^papermill(?=\s)"))) > 10
    joined = "```\npython -m dpiqa_lab train teacher \\\n    -p dataset koniq  # a remark\n```"
    (code,) = _code(joined)
    assert shlex.split(code, comments=True)[3:] == ["train", "teacher", "-p", "dataset", "koniq"]
    with pytest.raises(typer.TyperException, match="what"):
        _parsed(["train", "-p", "dataset", "biq2021"])
    with pytest.raises(KeyError):
        _parsed(["trian", "teacher"])
    with pytest.raises(click.UsageError):
        papermill_command.make_context("papermill", ["a.ipynb", "out.ipynb", "-p", "dataset"])
    with pytest.raises(AssertionError):
        _check_notebook("notebooks/03_train.ipynb", ["epoch"])
