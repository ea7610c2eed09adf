"""A table of scores on the disk that grows row by row and survives being cut off anywhere."""

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
    """``<stem>.csv`` (name, score), appended to, and ``<stem>-files.csv``: which files have these.

    ``<stem>.json`` says which model gave the scores.

    Attributes:
        scores, contents: by name, what the files hold; the order is the first one's.
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
        """Append a row, all digits of the score; the operating system has it when this returns."""
        self.scores[name] = float(str(score))
        self.contents[name] = content
        with check_disk_space(self.path):  # the score last: where it is, the content is known
            _append(self._contents, [name, *content])
            _append(self._scores, [name, str(score)])

    def refuse_changed(self, photographs: Iterable[Found]) -> None:
        """Raise LabError where photographs that have a score here have changed since."""
        known = (
            (f.name, f.path, self.contents[f.name]) for f in photographs if f.name in self.scores
        )
        refuse_changed(known, f"{self.path} was written: give another name, or delete it")

    def write_unreadable(self, reasons: dict[str, str]) -> None:
        """Write ``unreadable_path`` (name, reason); no reasons only replace an earlier file."""
        path = unreadable_path(self.path)
        if reasons or path.is_file():
            rows = [f"{_quoted(name)},{_quoted(reason)}\n" for name, reason in reasons.items()]
            write_text(path, "".join(["name,reason\n", *rows]))


def files_path(path: Path) -> Path:
    """``<stem>-files.csv``, for what the photographs that have a score were."""
    return path.with_name(f"{path.stem}-files.csv")


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
        # A power cut may leave scores whose files' rows are lost: these are computed again.
        last = next((i for i, (_, row) in enumerate(rows[1:], 1) if row[0] not in contents), None)
        rows = rows[:last]
        scores = {name: float(score) for _, (name, score) in rows[1:]}
        with (
            _appending(path, rows, HEADER) as scores_file,
            _appending(files_path(path), known, FILES_HEADER) as contents_file,
        ):
            yield ScoreSheet(path, (scores_file, contents_file), scores, contents)


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
    """A file of ``_rows`` to be appended to, cut off behind them."""
    # Unbuffered: what could not be written when a disk was full is not tried again.
    with open(path, "ab", buffering=0) as file:
        file.truncate(rows[-1][0] if rows else 0)
        if not rows:
            with check_disk_space(path):
                file.write(header)
        yield file


def _append(file: BinaryIO, cells: Iterable[str]) -> None:
    row = f"{','.join(map(_quoted, cells))}\n".encode()
    while row:  # a nearly full disk takes the beginning of a row without a word
        row = row[file.write(row) :]


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Complete rows of a file, the header's first, each with the position of its end.

    Raises:
        LabError: a row has not as many cells as the header, or a score that is no number.
    """
    if not path.is_file():
        return []
    start = end = quotes = 0
    content, found = path.read_bytes(), []
    for line in content.splitlines(keepends=True):
        end += len(line)
        quotes += line.count(b'"')
        # Within an odd number of quotes a line's end belongs to a name.
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
    """A CSV field; csv.writer would leave a carriage return without the quotes it needs."""
    special = any(letter in name for letter in ',"\r\n')
    return '"' + name.replace('"', '""') + '"' if special else name
