"""Configurations: frozen pydantic dataclasses, checked whenever they are made.

A configuration class derives from ``Configuration`` and is decorated by ``configuration``. Its
annotations (``int``, ``float``, ``bool``, ``str``, ``tuple[int, ...]`` and the like, each with
``| None``) are the types; ``option(...)`` adds choices and limits.
"""

import dataclasses
import functools
import inspect
import math
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo

from .device import Compute, choose_compute
from .errors import LabError, shortened, unknown
from .files import json_hash
from .runs import check_name

# Parameters of earlier versions and their current names.
RENAMED = {
    "arms": "variants",
    "part": "split",
    "photographs": "max_images",
    "random_twin": "random_init_control",
    "share": "train_fraction",
    "split": "split_scheme",
    "tested": "max_test_images",
}
_LARGEST = 2**53  # larger integers are not exact as float
_MAX_PROBLEMS = 15  # listed, so that a message fits on a screen
_RULES = ConfigDict(strict=True, extra="forbid")

C = TypeVar("C", bound="Configuration")
R = TypeVar("R")


def option(
    default: Any,  # noqa: ANN401 - of any field
    help: str,
    choices: Iterable | None = None,
    low: float | None = None,
    high: float | None = None,
) -> Any:  # noqa: ANN401 - stands for a value of the field
    """A field with a line of ``help``, allowed ``choices`` and inclusive limits.

    Choices and limits of a tuple apply to its items.
    """
    allowed: dict[str, Any] = {"choices": choices and tuple(choices), "low": low, "high": high}
    return Field(default, description=help, json_schema_extra=allowed)


# Without field_specifiers, as type checkers see no default in the positional one of ``option``.
@typing.dataclass_transform(frozen_default=True)
def configuration(cls: type[C]) -> type[C]:
    """Make ``cls`` a frozen dataclass with documented fields that raises LabError on bad values."""
    made: Any = dataclass(frozen=True, config=_RULES)(cls)
    unchecked = made.__init__

    @functools.wraps(unchecked)
    def checked(self: C, /, *args: object, **kwargs: object) -> None:
        try:
            unchecked(self, *args, **kwargs)
        except ValidationError as error:
            raise LabError(_describe(type(self), error)) from None

    made.__init__ = checked
    lines = [
        f"    {name}: {field.description} (default: {field.default!r})"
        for name, field in made.__pydantic_fields__.items()
    ]
    made.__doc__ = "\n".join([inspect.cleandoc(made.__doc__), "", "Attributes:", *lines])
    return made


def resolves(run: Callable[..., R]) -> Callable[..., R]:
    """Make ``run(config, ...)`` resolve its configuration first."""

    @functools.wraps(run)
    def resolved(config: Configuration, *args: Any, **kwargs: Any) -> R:  # noqa: ANN401
        return run(config.resolve(), *args, **kwargs)

    return resolved


class Configuration:
    """Base class of configurations.

    Subclasses with a ``run_name`` define ``stem``; those whose fields depend on each other or on
    the machine override ``resolve``.
    """

    # Fields that do not change results.
    no_result: typing.ClassVar[tuple[str, ...]] = ("run_name", "workers")
    if TYPE_CHECKING:  # fields of subclasses
        __pydantic_fields__: typing.ClassVar[dict[str, FieldInfo]]
        run_name: str | None
        device: str
        precision: str
        compile: bool
    else:
        compile = False  # if it is not a field

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> typing.Self:
        """A resolved configuration from parameters by name, as in a notebook.

        Raises:
            LabError: unknown names (with the nearest known one), wrong types and invalid values,
                all in one message.
        """
        return cls(**values).resolve()

    def resolve(self) -> typing.Self:
        """A copy with all defaults decided, including the name of its run.

        Raises:
            LabError: an invalid value.
        """
        return self.named()

    def compute(self) -> Compute:
        """Device and precision selected by ``device``, ``precision`` and ``compile``."""
        return choose_compute(self.device, self.precision, self.compile)

    def machine_defaults(self) -> dict:
        """``device`` and ``precision`` with "auto" resolved on this machine.

        They are recorded resolved, as "auto" on another machine may compute differently.
        """
        compute = self.compute()
        return {"device": str(compute.device), "precision": compute.precision}

    def identity(self) -> dict:
        """Parameters on which results depend: the content of a run's ``config.json``."""
        values = dataclasses.asdict(cast(Any, self))
        return {name: value for name, value in values.items() if name not in self.no_result}

    def stem(self) -> str:
        """Beginning of the generated name of a run."""
        raise NotImplementedError

    def made_up_name(self) -> str:
        """Generated name of the run, used if none is given."""
        return f"{self.stem()}-{json_hash([type(self).__name__, self.identity()])[:8]}"

    def named(self) -> typing.Self:
        """A copy with a run's name.

        Raises:
            LabError: the given name is not a plain folder name.
        """
        name = self.made_up_name() if self.run_name is None else self.run_name
        check_name(name)
        return dataclasses.replace(cast(Any, self), run_name=name)

    @field_validator("*", mode="before")
    @classmethod
    def _read(cls, value: object, info: ValidationInfo) -> object:
        """Split comma-separated text, as papermill's ``-p`` has no lists; wrap a single item."""
        kind, optional = _kind(cls, str(info.field_name))
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
    def _allow(cls, value: object, info: ValidationInfo) -> object:
        """Check choices and limits of ``option``."""
        name = str(info.field_name)
        extra = cast(dict, cls.__pydantic_fields__[name].json_schema_extra or {})
        for item in value if isinstance(value, tuple) else (value,):
            if item is not None:
                _check(name, item, **extra)
        return value


def _kind(cls: type[Configuration], name: str) -> tuple[Any, bool]:
    """A field's type without ``None``, and whether it may be ``None``."""
    hint: Any = cls.__pydantic_fields__[name].annotation
    options = typing.get_args(hint)
    if type(None) not in options:
        return hint, False
    (kind,) = [item for item in options if item is not type(None)]
    return kind, True


def _parsed(kind: type, text: str) -> object:
    try:
        return kind(text)
    except ValueError:
        return text


def _number(kind: type, value: object) -> object:
    """``value``; infinity for an integer too large for a field of type float."""
    integer = isinstance(value, int) and not isinstance(value, bool)
    return math.inf if kind is float and integer and abs(cast(int, value)) > _LARGEST else value


def _check(
    name: str,
    value: Any,  # noqa: ANN401 - of any field
    choices: Collection | None = None,
    low: float | None = None,
    high: float | None = None,
) -> None:
    if choices and value not in choices:
        raise unknown(name, value, map(str, choices))
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        span = f"at least {low}" if high is None else f"between {low} and {high}"
        raise ValueError(f"{name} must be {span}, got {_short_repr(value)}.")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise ValueError(f"{name} must be at most {_LARGEST:,}, got {_short_repr(value)}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}.")


def _describe(cls: type[Configuration], error: ValidationError) -> str:
    """Every parameter with a problem, one per line."""
    lines, names = [], list(cls.__pydantic_fields__)
    problems = {problem["loc"][0]: problem for problem in reversed(error.errors(include_url=False))}
    for place, problem in reversed(problems.items()):
        # A positional argument is identified by its position.
        name = names[place] if isinstance(place, int) and place < len(names) else str(place)
        value = problem["input"]
        if problem["type"] == "unexpected_keyword_argument":
            lines.append(_unknown(name, names))
        elif problem["type"] == "value_error":
            lines.append(str(problem["ctx"]["error"]))
        elif name not in names:
            lines.append(f"{cls.__name__}: {problem['msg']} ({_short_repr(value)}).")
        else:
            kind, _ = _kind(cls, name)
            kind = typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else kind
            default = cls.__pydantic_fields__[name].default
            what = (
                "must not be None"
                if value is None
                else f"must be {kind.__name__}, got {_short_repr(value)} ({type(value).__name__})"
            )
            lines.append(f"{name} {what}; its default is {default!r}.")
    more = [f"… and {len(lines) - _MAX_PROBLEMS} more"] if len(lines) > _MAX_PROBLEMS else []
    return "\n".join(lines[:_MAX_PROBLEMS] + more)


def _unknown(name: str, names: list[str]) -> str:
    if RENAMED.get(name) in names:
        return f"parameter {name!r} is called {RENAMED[name]!r} now."
    return str(unknown("parameter", name, names))


def _short_repr(value: object) -> str:
    try:
        return shortened(repr(value), 80)
    except ValueError:  # Python does not print numbers of thousands of digits
        return "a number of thousands of digits"
