"""What the lab's command line needs beyond typer: pairs of words, and how errors end a command."""

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
    """A command whose options of type ``Pairs`` take two words each; typer's take one."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        for parameter in self.params:
            if parameter.type_descriptor.annotation == Pairs:
                parameter.nargs = 2


class LabGroup(TyperGroup):
    """Commands of which bad input ends with its message and exit code 2, Ctrl-C with 130."""

    def invoke(self, ctx: typer.Context) -> None:
        """Run the command that was parsed."""
        try:
            with explained():
                super().invoke(ctx)
        except (LabError, OSError) as error:  # a full disk, a folder that must not be written
            print(f"error: {LabError(error)}", file=sys.stderr)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            print("\ninterrupted: the same command goes on from what is finished", file=sys.stderr)
            raise typer.Exit(130) from error  # as shells report Ctrl-C


def values(pairs: Pairs | None) -> dict[str, object]:
    """The pairs as names with what ``literal`` makes of their second words."""
    return {name: literal(text) for name, text in pairs or ()}


def literal(text: str) -> object:
    """A number, True, False or None as itself; anything else is text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
