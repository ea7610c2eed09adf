"""Scores of any number of images as Parquet parts with a manifest, locally or on a cluster."""

import time
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..core.device import Compute, choose_compute
from ..core.errors import LabError
from ..core.executors import run_items
from ..core.file_content import Content, refuse_changed
from ..core.files import atomic_path, file_hash, json_hash, write_json
from ..core.locks import folder_lock
from ..core.paths import DEFAULT_MODEL
from ..core.progress import progress_bar
from ..datasets.sources import Found, as_utf8, find_photographs
from ..models.fingerprint import fingerprint
from ..models.image_scorer import ImageScorer
from ..training.load_model import EMBEDDED, find_model
from .score import open_scorer, results
from .scores_csv import agree

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
except ImportError as missing:
    raise LabError(
        "Parquet parts need pyarrow: pip install 'dpiqa-lab[cluster]'; or write a .csv file."
    ) from missing

# Readers of Parquet folders leave out what starts with an underscore.
MANIFEST = "_manifest.json"
_SCHEMA = pa.schema(
    [("name", pa.string()), ("score", pa.float32())]
    + [(name, pa.string()) for name in ("reason", "sha256", "stamp")]
)


class Part(NamedTuple):
    """Consecutive images: names and paths, and the index of the first."""

    start: int
    photographs: list[tuple[str, str]]


def score_parts(
    photographs: Path | str | Sequence[Path | str],
    out: Path | str,
    model: str | Path | ImageScorer = DEFAULT_MODEL,
    batch_size: int = 8,
    device: str = "auto",
    cluster: str | None = None,
    part_size: int = 512,
    precision: str = "float32",
    compile: bool = False,
) -> dict:
    """Scores of all images, as rows of Parquet files in the folder ``out``.

    ``pandas.read_parquet(out)`` reads them: name, score on the normalised MOS scale (float32,
    higher is better, not clipped), reason (why there is no score, else null), and sha256 and
    stamp of the file, which detect changes. A repeated call computes only images without a row
    (delete a part to retry images without a score); an interruption loses at most the parts in
    progress.

    Args:
        photographs: see ``find_photographs``. model: see ``load_model``, or one with ``score``.
        cluster: "local:2", a scheduler's address or file (see ``cluster.open_client``), whose
            workers find photographs, model and ``out`` under the same paths; ``None`` is this
            process alone.
        part_size: images per part.
        precision: see ``choose_compute``; one per folder.
        compile: see ``ImageScorer.score``; each worker compiles for itself.

    Returns:
        The manifest, as in ``out/_manifest.json``: the model and its scale, number of images
        and of unreadable ones, and each part's file, rows, unreadable ones and SHA-256; with
        ``new`` (scored now) and ``seconds``.

    Raises:
        LabError: no photographs, model or cluster; ``out`` is of another model or folder, or in
            use; or a part could not be computed.
    """
    if batch_size < 1 or part_size < 1:
        raise LabError(f"batch_size and part_size must be at least 1: {batch_size}, {part_size}.")
    out = Path(out).expanduser().resolve()
    if out.is_file():
        raise LabError(f"{out} is a file; Parquet parts need a folder.")
    folder, found = find_photographs(photographs)
    compute = choose_compute(device, precision, compile)
    scorer, record = open_scorer(model, compute)
    if cluster is not None:
        record["device"] = device  # each worker's own
    sha256 = fingerprint(scorer)
    record |= {"model_sha256": sha256, "folder": as_utf8(str(folder)), "batch_size": batch_size}
    if cluster is None:
        model = scorer
    elif isinstance(model, str | Path) and model != EMBEDDED:
        model = find_model(model).path.resolve()  # one path for all workers
    del scorer
    work = PartScorer(model, out, sha256, batch_size, device, precision, compile)
    with folder_lock(out, wait=False, what="scores"):
        agree(out / MANIFEST, record, filled=any(_files(out)))
        names = pa.array([f.name for f in found], pa.string())
        paths = {f.name: f.path for f in found}
        missing = _missing_rows(names, _scored_names(out, sha256, paths))
        del paths
        waiting = deque(found[i] for i in missing)
        del found
        write_json(out / MANIFEST, {**record, "status": "running"})
        started = time.monotonic()
        done = run_items(work, _cut(waiting, missing, part_size), cluster)
        for part, result in progress_bar(done, "scoring parts", -(-len(missing) // part_size)):
            if isinstance(result, Exception):
                first = part.photographs[0][0]
                raise LabError(f"the part from {first!r} on failed: {result}") from result
        seconds = round(time.monotonic() - started, 1)
        lost = _missing_rows(names, _scored_names(out, sha256))
        if len(lost):
            raise LabError(
                f"{len(lost)} photographs have no row in {out}, as {names[lost[0]].as_py()!r}: do "
                "all workers see this folder under this path?"
            )
        for leftover in out.glob(".*.part"):  # of workers that were killed
            leftover.unlink(missing_ok=True)
        manifest = {**record, "status": "completed", **_summary(out)}
        write_json(out / MANIFEST, manifest)
    return {**manifest, "new": len(missing), "seconds": seconds}


def unreadable(out: Path | str, limit: int = 10) -> Iterator[str]:
    """Names of images without a score, and why, at most ``limit``."""
    for path in _files(Path(out)):
        table = pq.read_table(path, columns=["name", "reason"])
        for row in table.filter(pc.is_valid(table["reason"])).to_pylist()[:limit]:
            yield f"{row['name']}: {row['reason']}"
            limit -= 1


@dataclass
class PartScorer:
    """Writes the scores of a part; opens the model once.

    Args:
        model: a run's folder, "embedded", or the model itself. sha256: of that model.
    """

    model: Path | str | ImageScorer
    out: Path
    sha256: str
    batch_size: int
    device: str
    precision: str = "float32"
    compile: bool = False

    @cached_property
    def opened(self) -> tuple[ImageScorer, Compute]:
        """The model, on its device."""
        compute = choose_compute(self.device, self.precision, self.compile)
        scorer, _ = open_scorer(self.model)
        if fingerprint(scorer) != self.sha256:
            raise LabError(f"{self.model} has other weights in this worker than where it began.")
        return scorer.to(compute.device), compute

    def __call__(self, part: Part) -> None:
        """Score a part and write its Parquet file, if there is none."""
        names = [name for name, _ in part.photographs]
        # The same name if repeated; sorts in the list's order.
        path = self.out / f"part-{part.start:010d}-{json_hash(names)[:8]}.parquet"
        if path.is_file():
            return
        found = [Found(name, Path(path)) for name, path in part.photographs]
        batches = [found[i : i + self.batch_size] for i in range(0, len(found), self.batch_size)]
        scorer, compute = self.opened
        with scorer.evaluation(compute):
            rows = [
                (name, *((None, result) if isinstance(result, str) else (result, None)), *content)
                for name, result, content in results(scorer, compute, batches, ())
            ]
        columns = [list(column) for column in zip(*rows, strict=True)]
        table = pa.table(columns, _SCHEMA.with_metadata({"model_sha256": self.sha256}))
        with atomic_path(path) as temporary:
            pq.write_table(table, temporary)


def _cut(waiting: deque[Found], places: np.ndarray, part_size: int) -> Iterator[Part]:
    """Parts of ``waiting``, which is consumed; ``places`` are indices in the whole list."""
    for start in places[::part_size]:
        few = [waiting.popleft() for _ in range(min(part_size, len(waiting)))]
        yield Part(int(start), [(f.name, str(f.path)) for f in few])


def _files(out: Path) -> list[Path]:
    return sorted(out.glob("part-*.parquet"))


def _scored_names(
    out: Path, sha256: str, paths: Mapping[str, Path] | None = None
) -> pa.ChunkedArray:
    """Names that have a row; damaged parts are deleted, to be computed again.

    Args:
        paths: by name, of images that must not have changed.
    """
    names = []
    for path in _files(out):
        try:
            table = pq.read_table(path)
            table.validate(full=True)
            maker = (table.schema.metadata or {}).get(b"model_sha256", b"").decode()
        except (OSError, pa.ArrowException) as error:
            warnings.warn(f"damaged part {path} ({error}): computed again.", stacklevel=3)
            path.unlink()
            continue
        if maker != sha256:
            raise LabError(f"{path} is of another model: delete it, or give another folder.")
        paths = paths or {}
        rows = table.select(["name", "sha256", "stamp"]).to_pylist() if paths else []
        files = [
            (row["name"], paths[row["name"]], Content(row["sha256"], row["stamp"]))
            for row in rows
            if row["name"] in paths
        ]
        way_out = f"{path} was written: give another folder, or delete this file to score them anew"
        refuse_changed(files, way_out)
        names += table["name"].chunks
    return pa.chunked_array(names, pa.string())


def _missing_rows(names: pa.Array, known: pa.ChunkedArray) -> np.ndarray:
    """Positions of names without a row."""
    if twice := len(known) - pc.count_distinct(known).as_py():
        raise LabError(f"{twice} photographs have two rows: delete the folder of scores.")
    there = pc.is_in(names, value_set=known)
    return pc.indices_nonzero(pc.invert(there)).to_numpy()


def _summary(out: Path) -> dict:
    parts = []
    for path in _files(out):
        with pq.ParquetFile(path) as file:
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            bad = sum(group.column(1).statistics.null_count for group in groups)
            rows = file.metadata.num_rows
        parts.append(
            {"file": path.name, "rows": rows, "unreadable": bad, "sha256": file_hash(path)}
        )
    total = {key: sum(part[key] for part in parts) for key in ("rows", "unreadable")}
    return {"photographs": total["rows"], "unreadable": total["unreadable"], "parts": parts}
