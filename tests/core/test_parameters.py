from dataclasses import dataclass

import pytest

from dpiqa_lab.core.errors import LabError
from dpiqa_lab.core.parameters import build, documented, option


@dataclass(frozen=True)
class Config:
    steps: int | None = option(None, "steps", low=1)
    rate: float = option(0.1, "rate", low=0.0, high=1.0)
    mode: str = option("a", "mode", ("a", "b"))
    flag: bool = option(False, "flag")
    layers: tuple[int, ...] = option((1,), "layers")


def test_values_of_the_right_type_pass():
    made = build(Config, {"steps": 3, "rate": 1, "flag": True, "layers": "1, 5", "mode": "b"})
    assert made == Config(3, 1.0, "b", True, (1, 5))
    assert build(Config, {"layers": [2, 3]}).layers == (2, 3)
    assert build(Config, {"layers": 7}).layers == (7,)
    assert build(Config, {"layers": ""}).layers == ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stepz": 3}, r"unknown parameter 'stepz'\. Did you mean 'steps'\?"),
        ({"steps": "3"}, "steps must be int, got '3' \\(str\\)"),
        ({"steps": 2.5}, "steps must be int"),
        ({"steps": True}, "steps must be int"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"rate": None}, "rate must not be None"),
        ({"rate": "None"}, "rate must be float"),
        ({"rate": 1.5}, "rate must be between 0.0 and 1.0"),
        ({"rate": float("nan")}, "rate must be between"),
        ({"mode": "c"}, "unknown mode 'c'"),
        ({"flag": 1}, "flag must be bool"),
        ({"layers": "1,x"}, "layers must be int, got '1'|layers must be int, got 'x'"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(LabError, match=message):
        build(Config, values)


def test_all_problems_are_told_at_once():
    with pytest.raises(LabError) as caught:
        build(Config, {"stepz": 3, "rate": "fast", "mode": "c"})
    assert len(str(caught.value).splitlines()) == 3


def test_a_config_documents_its_fields():
    @documented
    @dataclass(frozen=True)
    class Told(Config):
        """Parameters of a test."""

    lines = Told.__doc__.splitlines()
    assert lines[:3] == ["Parameters of a test.", "", "Attributes:"]
    assert lines[3] == "    steps: steps (default: None)"
    assert len(lines) == 3 + 5
