"""Parameters from a notebook or a command line, checked against a dataclass by name and type.

A configuration is a frozen dataclass. Its annotations (``int``, ``float``, ``bool``, ``str``,
``tuple[int, ...]`` and the like, each with ``| None``) are the types; ``option(...)`` adds
choices and limits.
"""

import dataclasses
import inspect
import math
import types
import typing
from collections.abc import Mapping

from .errors import LabError, shortened, unknown

_LARGEST = 2**53  # beyond it neighbouring whole numbers are one as float
_TOLD = 15  # problems at most, so that the message fits on a screen


def option(default, help: str, choices=None, low=None, high=None):
    """A dataclass field with a line of ``help``, allowed ``choices`` and inclusive limits."""
    metadata = {"help": help, "choices": choices, "low": low, "high": high}
    return dataclasses.field(default=default, metadata=metadata)


def documented(cls):
    """The dataclass ``cls``, with each field's ``help`` and default in its docstring."""
    lines = [
        f"    {field.name}: {field.metadata.get('help', '')} (default: {field.default!r})"
        for field in dataclasses.fields(cls)
    ]
    cls.__doc__ = "\n".join([inspect.cleandoc(cls.__doc__), "", "Attributes:", *lines])
    return cls


def build(cls, values: Mapping[str, object]):
    """An instance of the dataclass ``cls`` from ``values``.

    Raises:
        LabError: a name that is no field (with the nearest one), a value of another type, outside
            its limits or not among its choices. All problems are told at once.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    problems, checked = [], {}
    for name, value in values.items():
        try:
            if name not in fields:
                raise unknown("parameter", name, fields)
            checked[name] = _check(fields[name], hints[name], value)
        except LabError as error:
            problems.append(str(error))
    if problems:
        more = [f"… and {len(problems) - _TOLD} more"] if len(problems) > _TOLD else []
        raise LabError("\n".join(problems[:_TOLD] + more))
    return cls(**checked)


def _check(field: dataclasses.Field, hint, value):
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None:
        if type(None) in options:
            return None
        raise LabError(f"{field.name} must not be None; its default is {field.default!r}.")
    if value == "None" and type(None) in options:
        raise LabError(
            f"{field.name} is the text 'None'; give None without quotes (with papermill by -p, not "
            "by -r), or leave it out."
        )
    (kind,) = [item for item in options if item is not type(None)]
    if typing.get_origin(kind) is tuple:
        kind = typing.get_args(kind)[0]
        return tuple(_scalar(field, kind, item) for item in _items(kind, value))
    return _scalar(field, kind, value)


def _items(kind: type, value) -> list:
    """The items of a list, or of comma-separated text, as papermill's ``-p`` knows no lists."""
    if isinstance(value, list | tuple):
        return list(value)
    if not isinstance(value, str):
        return [value]
    return [_read(kind, item.strip()) for item in value.split(",") if item.strip()]


def _read(kind: type, text: str):
    try:
        return kind(text)
    except ValueError:
        return text


def _scalar(field: dataclasses.Field, kind: type, value):
    converted = _convert(kind, value)
    if converted is None:
        raise LabError(
            f"{field.name} must be {kind.__name__}, got {_said(value)} ({type(value).__name__}); "
            f"its default is {field.default!r}."
        )
    limits = field.metadata
    if limits.get("choices") and converted not in limits["choices"]:
        raise unknown(field.name, converted, map(str, limits["choices"]))
    low, high = limits.get("low"), limits.get("high")
    if (low is not None and not converted >= low) or (high is not None and not converted <= high):
        span = f"at least {low}" if high is None else f"between {low} and {high}"
        raise LabError(f"{field.name} must be {span}, got {_said(converted)}.")
    if isinstance(converted, int) and abs(converted) > _LARGEST:
        raise LabError(f"{field.name} must be at most {_LARGEST:,}, got {_said(converted)}.")
    if isinstance(converted, float) and not math.isfinite(converted):
        raise LabError(f"{field.name} must be a finite number, got {converted!r}.")
    return converted


def _said(value) -> str:
    try:
        return shortened(repr(value), 80)
    except ValueError:  # Python writes no number of many thousand digits
        return "a number of thousands of digits"


def _convert(kind: type, value):
    """``value`` as ``kind``, or None where it is of another type."""
    if isinstance(value, kind) and not (kind is not bool and isinstance(value, bool)):
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) <= _LARGEST else math.inf
    return None
