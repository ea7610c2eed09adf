"""Scores of any number of images: read ahead in threads, resumable."""

import contextlib
import os
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..core.device import Compute, choose_compute
from ..core.errors import LabError, listing
from ..core.file_content import Content, content_of
from ..core.paths import DEFAULT_MODEL
from ..core.progress import progress_bar
from ..datasets.scale import UNKNOWN_SCALE, scale_of
from ..datasets.sources import Found, as_utf8, find_photographs
from ..models.fingerprint import fingerprint
from ..models.image_scorer import ImageScorer, Photograph
from ..training.load_model import find_model, load_model
from .scores_csv import open_sheet

# Batches read ahead, and reader threads: Pillow decodes without Python's lock.
_AHEAD, _READERS = 3, min(8, os.cpu_count() or 1)


def score_folder(
    photographs: Path | str | Sequence[Path | str],
    model: str | Path | ImageScorer = DEFAULT_MODEL,
    out: Path | str | None = None,
    batch_size: int = 8,
    device: str = "auto",
    precision: str = "float32",
    compile: bool = False,
) -> pd.DataFrame:
    """Scores of all images in a folder, as written by ``dpiqa score``.

    Args:
        photographs: a folder with its sub-folders; a file that lists paths (.txt: one a line; .csv:
            column path or name, else the first); images; or several of these.
        model: a run, see ``load_model``, or a model with ``score``.
        out: CSV file (name, score) that grows during scoring; a repeated call scores only missing
            images. ``<stem>.json`` records the model, ``<stem>-files.csv`` the files scored,
            ``<stem>-unreadable.csv`` those that could not be scored.
        batch_size: images per pass; the last digits of scores may depend on it.
        precision: see ``choose_compute``; one per file.
        compile: see ``ImageScorer.score``; may change the last digits.

    Returns:
        A row per readable image, in input order: name, score on the normalised MOS
        scale (higher is better, not clipped) and path. ``.attrs`` has ``unreadable`` (reasons by
        name, also warned of), ``model`` (the record; ``raw_mos`` describes the mapping to the
        released scale), ``new`` (number scored now) and ``seconds`` (of that).

    Raises:
        LabError: no images or no such model; ``out`` is of another model, folder, precision, device
            or version of the lab, or of images that have changed.
    """
    table = score_photographs(photographs, model, out, batch_size, device, precision, compile)
    if unreadable := table.attrs["unreadable"]:
        reasons = listing(f"{name}: {reason}" for name, reason in unreadable.items())
        warnings.warn(
            f"{len(unreadable)} photographs could not be scored:\n{reasons}", stacklevel=2
        )
    return table


def score_photographs(
    photographs: Path | str | Sequence[Path | str],
    model: str | Path | ImageScorer,
    out: Path | str | None,
    batch_size: int,
    device: str,
    precision: str = "float32",
    compile: bool = False,
) -> pd.DataFrame:
    """``score_folder`` without its warning."""
    if batch_size < 1:
        raise LabError(f"batch_size must be at least 1, got {batch_size!r}.")
    folder, found = find_photographs(photographs)
    compute = choose_compute(device, precision, compile)
    scorer, record = open_scorer(model, compute)
    record["folder"] = as_utf8(str(folder))
    scores, unreadable, new = {}, {}, 0
    with contextlib.ExitStack() as stack:
        sheet = None
        if out is not None:
            record["model_sha256"] = fingerprint(scorer)
            sheet = stack.enter_context(open_sheet(out, record))
            sheet.refuse_changed(found)
            scores = dict(sheet.scores)
        scorer.to(compute.device)
        stack.enter_context(scorer.evaluation(compute))
        started = time.monotonic()
        # Batches are cut from the whole list and computed whole, so that interruptions do not
        # change rounding (except compiled, if the last, smaller batch is computed alone).
        batches = [found[i : i + batch_size] for i in range(0, len(found), batch_size)]
        todo = [batch for batch in batches if any(f.name not in scores for f in batch)]
        found_out = results(scorer, compute, todo, scores.keys())
        missing = sum(f.name not in scores for f in found)
        for name, result, content in progress_bar(found_out, "scoring", missing):
            if isinstance(result, str):
                unreadable[name] = result
                continue
            if sheet:
                sheet.add(name, result, content)
            scores[name] = float(str(result))
            new += 1
        seconds = time.monotonic() - started
        if sheet:
            sheet.write_unreadable(unreadable)
    rows = [(f.name, scores[f.name], f.path) for f in found if f.name in scores]
    table = pd.DataFrame(rows, columns=["name", "score", "path"])
    table.attrs = {"unreadable": unreadable, "model": record, "new": new, "seconds": seconds}
    return table


def open_scorer(
    model: str | Path | ImageScorer, compute: Compute | None = None
) -> tuple[ImageScorer, dict]:
    """A model, given or of a run, and the record that describes its scores.

    Args:
        compute: used for scoring; ``None``: not recorded.
    """
    config = {}
    if isinstance(model, str | Path):
        config = find_model(model).config
        name, scorer = str(model), load_model(model)
    else:
        name, scorer = type(model).__name__, model
    scale = scale_of(config)
    record = {
        "model": name,
        "kind": type(scorer).__name__,
        "trained_on": config.get("dataset") or config.get("converted_from"),
        **(scale.record() if scale else UNKNOWN_SCALE),
        "score": "on the normalised MOS scale of what it was trained on: 0 is its worst, 1 its "
        "best; not clipped, so scores beyond 0 and 1 occur",
        "direction": "higher is better",
        "image_size": scorer.image_size,
        "lab": version("dpiqa-lab"),
    }
    if compute is not None:
        record |= {"precision": compute.precision, "device": str(compute.device)}
    return scorer, record


def results(
    model: ImageScorer, compute: Compute, batches: Iterable[list[Found]], known: Iterable[str]
) -> Iterator[tuple[str, np.float32 | str, Content]]:
    """Name, score or reason for its absence, and file content, of images not in ``known``."""
    known = frozenset(known)
    for batch, read in _read_ahead(model, batches):
        wanted = [f.name not in known for f in batch]
        images = [image for image, _ in read if torch.is_tensor(image)]
        scores: Iterator[np.float32] = iter(())
        asked = [image for (image, _), want in zip(read, wanted, strict=True) if want]
        if any(map(torch.is_tensor, asked)):
            scores = iter(model.score_batch(torch.stack(images), compute))
        for photograph, (image, content), want in zip(batch, read, wanted, strict=True):
            result = next(scores, None) if torch.is_tensor(image) else image
            if want:
                assert result is not None  # the batch was scored
                bad = not isinstance(result, str) and not np.isfinite(result)
                result = f"the model's score is {result}" if bad else result
                yield photograph.name, result, content


def _read_ahead(
    model: ImageScorer, batches: Iterable[list[Found]]
) -> Iterator[tuple[list[Found], list[tuple[torch.Tensor | str, Content]]]]:
    """The batches with each image prepared for the model, or the reason why not."""
    pool = ThreadPoolExecutor(_READERS)
    waiting: deque[tuple[list[Found], list[Future]]] = deque()
    try:
        for batch in batches:
            waiting.append((batch, [pool.submit(_read, model, f.path) for f in batch]))
            if len(waiting) > _AHEAD:
                batch, futures = waiting.popleft()
                yield batch, [future.result() for future in futures]
        for batch, futures in waiting:
            yield batch, [future.result() for future in futures]
    finally:
        pool.shutdown(cancel_futures=True)


def _read(model: ImageScorer, path: Path) -> tuple[torch.Tensor | str, Content]:
    content = Content()
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            # Reading might block.
            return "it is no file but a pipe or a device", content
        content = content_of(path)
        return model.prepare(path), content
    except LabError as error:
        return as_utf8(str(error).removeprefix(f"{path}: ")), content
    except Exception as error:  # noqa: BLE001 - decoders raise anything; the others continue
        return as_utf8(f"{type(error).__name__}: {error}"), content


def score(images: Photograph | Sequence[Photograph]) -> float | np.ndarray:
    """Scores of a few images by the embedded student; for many see ``score_folder``.

    Args:
        images: a file, a PIL image or a tensor (3, h, w) in [0,1]; or several of them, mixed.

    Returns:
        On the normalised MOS scale, higher is better, not clipped: a float for one image, an
        array (n,) for several.

    Raises:
        LabError: an image that cannot be read.
    """
    several = isinstance(images, list | tuple)
    asked: Any = images if several else [images]
    scores = _embedded().score(asked)
    return scores if several else float(scores[0])


@cache
def _embedded() -> ImageScorer:
    """Loaded once per process, as ``score`` may be called image by image."""
    return load_model(DEFAULT_MODEL)
