"""Configurations: frozen pydantic dataclasses, checked however they are made.

A configuration class derives from ``Configuration`` and is decorated by ``configuration``. Its
annotations (``int``, ``float``, ``bool``, ``str``, ``tuple[int, ...]`` and the like, each with
``| None``) are the types; ``option(...)`` adds choices and limits.
"""

import dataclasses
import functools
import inspect
import math
import typing
from collections.abc import Mapping
from pathlib import Path

from pydantic import ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from .device import Compute, choose_compute
from .errors import LabError, shortened, unknown
from .files import json_hash
from .runs import check_name

# Parameters of earlier versions, by what they are called now.
RENAMED = {
    "arms": "variants",
    "part": "split",
    "photographs": "max_images",
    "random_twin": "random_init_control",
    "share": "train_fraction",
    "split": "split_scheme",
    "tested": "max_test_images",
}
_LARGEST = 2**53  # beyond it neighbouring whole numbers are one as float
_LISTED = 15  # problems at most, so that the message fits on a screen
_RULES = ConfigDict(strict=True, extra="forbid")


def option(default, help: str, choices=None, low=None, high=None):
    """A field with a line of ``help``, allowed ``choices`` and inclusive limits.

    Choices and limits of a tuple are those of its items.
    """
    allowed = {"choices": choices and tuple(choices), "low": low, "high": high}
    return Field(default, description=help, json_schema_extra=allowed)


def configuration(cls):
    """``cls`` as a frozen dataclass that raises LabError for bad values, its fields documented."""
    made = dataclass(frozen=True, config=_RULES)(cls)
    unchecked = made.__init__

    @functools.wraps(unchecked)
    def checked(self, /, *args, **kwargs):
        try:
            unchecked(self, *args, **kwargs)
        except ValidationError as error:
            raise LabError(_described(type(self), error)) from None

    made.__init__ = checked
    lines = [
        f"    {name}: {field.description} (default: {field.default!r})"
        for name, field in made.__pydantic_fields__.items()
    ]
    made.__doc__ = "\n".join([inspect.cleandoc(made.__doc__), "", "Attributes:", *lines])
    return made


def resolves(run):
    """``run(config, ...)`` that takes a configuration which is not resolved yet, too."""

    @functools.wraps(run)
    def resolved(config, *args, **kwargs):
        return run(config.resolve(), *args, **kwargs)

    return resolved


class Configuration:
    """What all configurations have in common.

    Subclasses with a ``run_name`` define ``stem``; those whose fields depend on each other or on
    the machine define ``resolve``.
    """

    # Fields that change no result.
    no_result: typing.ClassVar[tuple[str, ...]] = ("run_name", "workers")
    compile = False  # where it is no field

    @classmethod
    def from_parameters(cls, values: Mapping[str, object]) -> typing.Self:
        """A resolved configuration from parameters by name, as a notebook has them.

        Raises:
            LabError: unknown names (with the nearest known one), wrong types, impossible values:
                all of them in one message.
        """
        return cls(**values).resolve()

    def resolve(self) -> typing.Self:
        """The same with every value that was left open decided, a name for its run included.

        Raises:
            LabError: an impossible value.
        """
        return self.named()

    def compute(self) -> Compute:
        """Where and how precisely to compute, as ``device``, ``precision`` and ``compile`` ask."""
        return choose_compute(self.device, self.precision, self.compile)

    def machine_defaults(self) -> dict:
        """``device`` and ``precision`` as "auto" turns out on this machine.

        They are recorded so: the same "auto" on another machine is another computation.
        """
        compute = self.compute()
        return {"device": str(compute.device), "precision": compute.precision}

    def identity(self) -> dict:
        """The parameters that results depend on: what ``config.json`` of a run holds."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if name not in self.no_result}

    def stem(self) -> str:
        """First words of the name that a run gets where none was given."""
        raise NotImplementedError

    def made_up_name(self) -> str:
        """The run's name where none was given."""
        return f"{self.stem()}-{json_hash([type(self).__name__, self.identity()])[:8]}"

    def named(self) -> typing.Self:
        """The same with a run's name.

        Raises:
            LabError: the name that was given is no plain folder name.
        """
        name = self.made_up_name() if self.run_name is None else self.run_name
        check_name(name)
        return dataclasses.replace(self, run_name=name)

    @field_validator("*", mode="before")
    @classmethod
    def _read(cls, value, info: ValidationInfo):
        """Items of comma-separated text, as papermill's ``-p`` knows no lists; one item alone."""
        kind, optional = _kind(cls, info.field_name)
        value = str(value) if isinstance(value, Path) else value
        if value == "None" and optional:
            raise ValueError(
                f"{info.field_name} is the text 'None'; give None without quotes (with papermill "
                "by -p, not by -r), or leave it out."
            )
        if value is None or typing.get_origin(kind) is not tuple:
            return _number(kind, value)
        kind = typing.get_args(kind)[0]
        if isinstance(value, str):
            value = [_parsed(kind, item.strip()) for item in value.split(",") if item.strip()]
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_number(kind, item) for item in items)

    @field_validator("*", mode="after")
    @classmethod
    def _allow(cls, value, info: ValidationInfo):
        """Choices and limits of ``option``."""
        field = cls.__pydantic_fields__[info.field_name]
        for item in value if isinstance(value, tuple) else (value,):
            if item is not None:
                _check(info.field_name, item, **(field.json_schema_extra or {}))
        return value


def _kind(cls, name: str) -> tuple[object, bool]:
    """A field's type without ``None``, and whether it may be ``None``."""
    hint = cls.__pydantic_fields__[name].annotation
    options = typing.get_args(hint)
    if type(None) not in options:
        return hint, False
    (kind,) = [item for item in options if item is not type(None)]
    return kind, True


def _parsed(kind: type, text: str):
    try:
        return kind(text)
    except ValueError:
        return text


def _number(kind: type, value):
    """A whole number too large for a float counts as infinite where a float is expected."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return math.inf if kind is float and whole and abs(value) > _LARGEST else value


def _check(name: str, value, choices=None, low=None, high=None) -> None:
    if choices and value not in choices:
        raise unknown(name, value, map(str, choices))
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        span = f"at least {low}" if high is None else f"between {low} and {high}"
        raise ValueError(f"{name} must be {span}, got {_shown(value)}.")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise ValueError(f"{name} must be at most {_LARGEST:,}, got {_shown(value)}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}.")


def _described(cls, error: ValidationError) -> str:
    """Every parameter that has a problem, in a line of its own."""
    lines, names = [], list(cls.__pydantic_fields__)
    problems = {problem["loc"][0]: problem for problem in reversed(error.errors(include_url=False))}
    for place, problem in reversed(problems.items()):
        # One given without its name is known by its position.
        name = names[place] if isinstance(place, int) and place < len(names) else str(place)
        value = problem["input"]
        if problem["type"] == "unexpected_keyword_argument":
            lines.append(_unknown(name, names))
        elif problem["type"] == "value_error":
            lines.append(str(problem["ctx"]["error"]))
        elif name not in names:
            lines.append(f"{cls.__name__}: {problem['msg']} ({_shown(value)}).")
        else:
            kind, _ = _kind(cls, name)
            kind = typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else kind
            default = cls.__pydantic_fields__[name].default
            what = (
                "must not be None"
                if value is None
                else f"must be {kind.__name__}, got {_shown(value)} ({type(value).__name__})"
            )
            lines.append(f"{name} {what}; its default is {default!r}.")
    more = [f"… and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    return "\n".join(lines[:_LISTED] + more)


def _unknown(name: str, names: list[str]) -> str:
    if RENAMED.get(name) in names:
        return f"parameter {name!r} is called {RENAMED[name]!r} now."
    return str(unknown("parameter", name, names))


def _shown(value) -> str:
    try:
        return shortened(repr(value), 80)
    except ValueError:  # Python writes no number of many thousand digits
        return "a number of thousands of digits"
