"""A CSV file of scores that grows by rows and survives interruption."""

import contextlib
import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..core.errors import LabError, listing
from ..core.file_content import Content, refuse_changed
from ..core.files import check_disk_space, drop_leftovers, read_json, write_json, write_text
from ..core.locks import folder_lock
from ..datasets.sources import Found

HEADER = b"name,score\n"
FILES_HEADER = b"name,sha256,stamp\n"


class ScoreSheet:
    """``<stem>.csv`` (name, score), appended to, and ``<stem>-files.csv`` for the files scored.

    ``<stem>.json`` records the model.

    Attributes:
        scores, contents: by name, contents of the files.
    """

    def __init__(
        self,
        path: Path,
        files: tuple[BinaryIO, BinaryIO],
        scores: dict[str, float],
        contents: dict[str, Content],
    ) -> None:
        self.path = path
        self.scores = scores
        self.contents = contents
        self._scores, self._contents = files

    def add(self, name: str, score: np.float32, content: Content) -> None:
        """Append a row with all digits of the score, unbuffered."""
        self.scores[name] = float(str(score))
        self.contents[name] = content
        with check_disk_space(self.path):  # the score last: where it is, the content is known
            _append(self._contents, [name, *content])
            _append(self._scores, [name, str(score)])

    def refuse_changed(self, photographs: Iterable[Found]) -> None:
        """Raise LabError if images that have a score have changed."""
        known = (
            (f.name, f.path, self.contents[f.name]) for f in photographs if f.name in self.scores
        )
        refuse_changed(known, f"{self.path} was written: give another name, or delete it")

    def write_unreadable(self, reasons: dict[str, str]) -> None:
        """Write ``unreadable_path`` (name, reason); without reasons only if the file exists."""
        path = unreadable_path(self.path)
        if reasons or path.is_file():
            rows = [f"{_quoted(name)},{_quoted(reason)}\n" for name, reason in reasons.items()]
            write_text(path, "".join(["name,reason\n", *rows]))


def files_path(path: Path) -> Path:
    """``<stem>-files.csv``: content hashes of the images scored."""
    return path.with_name(f"{path.stem}-files.csv")


def unreadable_path(path: Path) -> Path:
    """``<stem>-unreadable.csv``: images that could not be scored."""
    return path.with_name(f"{path.stem}-unreadable.csv")


@contextlib.contextmanager
def open_sheet(path: Path | str, record: dict) -> Iterator[ScoreSheet]:
    """The sheet at ``path``, new or continued, locked against other processes.

    Args:
        path: of the CSV file.
        record: of model and images; an existing file must agree.

    Raises:
        LabError: the file is of another model or folder, or has no record; or another process is
            writing it.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() != ".csv":
        raise LabError(f"scores are written to a .csv file, got {str(path)!r}.")
    with folder_lock(path.parent, wait=False, what="scores", file=path.name):
        drop_leftovers(path.parent, path.stem)
        agree(path.with_suffix(".json"), record, filled=path.is_file())
        rows, known = (_rows(place) for place in (path, files_path(path)))
        if len(rows) > 1 and not known:
            raise LabError(
                f"{files_path(path)} is missing, which says what the photographs in {path} were: "
                "give another name, or delete the scores."
            )
        contents = {name: Content(*content) for _, (name, *content) in known[1:]}
        # A power cut may lose rows of files: their scores are computed again.
        last = next((i for i, (_, row) in enumerate(rows[1:], 1) if row[0] not in contents), None)
        rows = rows[:last]
        scores = {name: float(score) for _, (name, score) in rows[1:]}
        with (
            _appending(path, rows, HEADER) as scores_file,
            _appending(files_path(path), known, FILES_HEADER) as contents_file,
        ):
            yield ScoreSheet(path, (scores_file, contents_file), scores, contents)


def agree(side: Path, record: dict, filled: bool) -> None:
    """Compare with the record ``side`` of scores, or write it if there are none yet.

    Args:
        record: of model and images. filled: whether scores exist.

    Raises:
        LabError: scores are of another model or folder, or have no record.
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
        "model: its weights or settings are others"
        if key == "model_sha256"
        else f"{key}: {stored.get(key)!r} there, {record.get(key)!r} now"
        for key in ("model_sha256", "folder", "precision", "device", "lab")
        if stored.get(key) != record.get(key)
    ]
    if other and filled:
        raise LabError(
            f"{side} is about scores of another model, precision, device or version of the lab, or "
            f"of photographs elsewhere: give another name, or delete them:\n{listing(other)}"
        )
    if not filled:
        write_json(side, record)


@contextlib.contextmanager
def _appending(path: Path, rows: list[tuple[int, list[str]]], header: bytes) -> Iterator[BinaryIO]:
    """A file opened for appending, truncated after ``rows``."""
    # Unbuffered, so that a failed write to a full disk is not repeated.
    with path.open("ab", buffering=0) as file:
        file.truncate(rows[-1][0] if rows else 0)
        if not rows:
            with check_disk_space(path):
                file.write(header)
        yield file


def _append(file: BinaryIO, cells: Iterable[str]) -> None:
    row = f"{','.join(map(_quoted, cells))}\n".encode()
    while row:  # a nearly full disk may write part of a row
        row = row[file.write(row) :]


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Complete rows of a file, header first, each with its end position.

    Raises:
        LabError: a row with another number of cells than the header, or a score that is no number.
    """
    if not path.is_file():
        return []
    start = end = quotes = 0
    content = path.read_bytes()
    found: list[tuple[int, list[str]]] = []
    for line in content.splitlines(keepends=True):
        end += len(line)
        quotes += line.count(b'"')
        # Within quotes a line end belongs to a name.
        if line.endswith(b"\n") and quotes % 2 == 0:
            (row,) = csv.reader(io.StringIO(content[start:end].decode(), newline=""))
            if found and (len(row) != len(found[0][1]) or not _is_number(found[0][1], row)):
                raise LabError(
                    f"{path}: row {len(found) + 1} is {row!r}, not {', '.join(found[0][1])}."
                )
            found.append((end, row))
            start = end
    return found


def _is_number(header: list[str], row: list[str]) -> bool:
    """Whether the score of a row is one, where it has one."""
    if "score" in header:
        with contextlib.suppress(ValueError):
            float(row[header.index("score")])
            return True
        return False
    return True


def _quoted(name: str) -> str:
    """A CSV field; csv.writer does not quote carriage returns."""
    special = any(letter in name for letter in ',"\r\n')
    return '"' + name.replace('"', '""') + '"' if special else name
