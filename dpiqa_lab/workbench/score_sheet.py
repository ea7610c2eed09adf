"""A table of scores on the disk that grows row by row and survives being cut off anywhere."""

import contextlib
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..core.errors import LabError, listing
from ..core.files import drop_leftovers, needs_space, read_json, write_json, write_text
from ..core.locks import hold

HEADER = b"name,score\n"


class ScoreSheet:
    """``<stem>.csv`` (name, score), appended to; ``<stem>.json`` says which model gave the scores.

    Attributes:
        scores: by name, what the file holds; the order is the file's.
    """

    def __init__(self, path: Path, file: BinaryIO, scores: dict[str, float]):
        self.path = path
        self.scores = scores
        self._file = file

    def add(self, name: str, score: np.float32) -> None:
        """Append a row, all digits of the score; the operating system has it when this returns."""
        self.scores[name] = float(str(score))
        row = f"{_quoted(name)},{score!s}\n".encode()
        with needs_space(self.path):
            while row:  # a nearly full disk takes the beginning of a row without a word
                row = row[self._file.write(row) :]

    def write_unreadable(self, reasons: dict[str, str]) -> None:
        """Write ``unreadable_path`` (name, reason); no reasons only replace an earlier file."""
        path = unreadable_path(self.path)
        if reasons or path.is_file():
            rows = [f"{_quoted(name)},{_quoted(reason)}\n" for name, reason in reasons.items()]
            write_text(path, "".join(["name,reason\n", *rows]))


def unreadable_path(path: Path) -> Path:
    """``<stem>-unreadable.csv``, for the photographs that could not be scored."""
    return path.with_name(f"{path.stem}-unreadable.csv")


@contextlib.contextmanager
def open_sheet(path: Path | str, record: dict) -> Iterator[ScoreSheet]:
    """The sheet at ``path``, new or to be continued, held against other processes meanwhile.

    Args:
        path: of the CSV file.
        record: of the model and the photographs; what stands in the file must agree with it.

    Raises:
        LabError: the file was made by another model or from another folder, or nothing says by
            which; or another process is writing it.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() != ".csv":
        raise LabError(f"scores are written to a .csv file, got {str(path)!r}.")
    with hold(path.parent, wait=False, what="scores", file=path.name):
        drop_leftovers(path.parent, path.stem)
        agree(path.with_suffix(".json"), record, filled=path.is_file())
        content = path.read_bytes() if path.is_file() else b""
        whole = _whole_rows(content)
        scores = _parsed(path, whole)
        # Unbuffered: what could not be written when a disk was full is not tried again.
        with open(path, "ab", buffering=0) as file:
            file.truncate(len(whole))
            if not whole:
                with needs_space(path):
                    file.write(HEADER)
            yield ScoreSheet(path, file, scores)


def agree(side: Path, record: dict, filled: bool) -> None:
    """Compare with the record ``side`` of scores, or write it, before there is any row.

    Args:
        record: of the model and the photographs. filled: whether scores are there already.

    Raises:
        LabError: they are of another model or folder, or nothing says of which.
    """
    if filled and not side.is_file():
        raise LabError(
            f"scores are in {side.parent} already, and no {side.name} says which model made them: "
            "give another name, or delete them."
        )
    try:
        stored = read_json(side) if side.is_file() else record
    except ValueError:
        stored = {}
    if "model_sha256" not in stored:
        raise LabError(f"{side} is there and is not about scores: give another name.")
    other = [
        f"{key}: {stored.get(key)!r} there, {record.get(key)!r} now"
        for key in ("model_sha256", "folder", "precision")
        if stored.get(key) != record.get(key)
    ]
    if other and filled:
        raise LabError(
            f"{side} tells of scores of another model or precision, or of photographs elsewhere: "
            f"give another name, or delete them:\n{listing(other)}"
        )
    if not filled:
        write_json(side, record)


def _whole_rows(content: bytes) -> bytes:
    """``content`` up to the end of its last row that is complete."""
    end = quotes = position = 0
    for line in content.splitlines(keepends=True):
        position += len(line)
        quotes += line.count(b'"')
        # Within an odd number of quotes a line's end belongs to a name.
        if line.endswith(b"\n") and quotes % 2 == 0:
            end = position
    return content[:end]


def _parsed(path: Path, rows: bytes) -> dict[str, float]:
    table = csv.reader(io.StringIO(rows.decode(), newline=""))
    scores = {}
    for number, row in enumerate(table, 1):
        try:
            name, score = row
            if number > 1:
                scores[name] = float(score)
        except ValueError:
            raise LabError(f"{path}: row {number} is {row!r}, not a name and a score.") from None
    return scores


def _quoted(name: str) -> str:
    """A CSV field; csv.writer would leave a carriage return without the quotes it needs."""
    special = any(letter in name for letter in ',"\r\n')
    return '"' + name.replace('"', '""') + '"' if special else name
