"""Extensions of typer: options of two words, and exit codes of errors."""

import ast
import sys
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from .errors import LabError
from .extras import explained


class Pair(NamedTuple):
    """The two words of an option such as ``-p NAME VALUE``."""

    name: str
    value: str


Pairs = list[Pair]


class PairsCommand(TyperCommand):
    """A command whose options of type ``Pairs`` take two words each."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:  # noqa: ANN401 - as in typer
        super().__init__(*arguments, **settings)
        for parameter in self.params:
            if getattr(parameter, "type_descriptor").annotation == Pairs:  # noqa: B009 - untyped
                parameter.nargs = 2


class LabGroup(TyperGroup):
    """Commands that report bad input with exit code 2, and Ctrl-C with 130."""

    def invoke(self, ctx: Any) -> None:  # noqa: ANN401 - typer's own class of contexts
        """Run the parsed command."""
        try:
            with explained():
                super().invoke(ctx)
        except (LabError, OSError) as error:  # a full disk, a folder that must not be written
            print(f"error: {LabError(error)}", file=sys.stderr)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            print("\ninterrupted: run the same command again to continue", file=sys.stderr)
            raise typer.Exit(130) from error  # as shells report Ctrl-C


def values(pairs: Pairs | None) -> dict[str, object]:
    """Pairs as a dict, with values read by ``literal``."""
    return {name: literal(text) for name, text in pairs or ()}


def literal(text: str) -> object:
    """Any Python literal (number, True, None, ...) as its value; anything else as text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
