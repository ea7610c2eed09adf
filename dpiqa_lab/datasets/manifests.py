"""From a label table to images on disk with normalised scores."""

import inspect
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..core.errors import LabError, listing, unknown
from ..core.paths import data_dir, user_path
from .demo import make_demo
from .image_index import build_image_index
from .images import SUFFIXES
from .near_duplicates import scenes_of, with_scenes
from .scale import Scale, check_scale, label_from
from .specs import DatasetSpec, get_spec
from .split_schemes import assign_split
from .validation_checks import (
    check_count,
    check_labels,
    check_leaks,
    check_near_copies,
    check_scale_used,
    numbers,
    raise_findings,
)


@dataclass(frozen=True)
class Manifest:
    """A dataset on disk.

    Attributes:
        table: one row per image: name, path, mos_raw, mos in [0,1] (higher is better), split, hash,
            height, width; subset if known; group if the labels have one or near copies exist.
        split: description of the split.
        scale: of ``mos_raw``.
        skipped: images left out by ``on_bad_image="skip"``: name and error.
        notes: remarks for readers of the results.
    """

    spec: DatasetSpec
    root: Path
    table: pd.DataFrame
    split: str
    scale: Scale
    skipped: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def mos_range(self) -> tuple[float, float]:
        """Ends of the scale."""
        return self.scale[:2]

    @property
    def lower_better(self) -> bool:
        """Whether a lower released score is better."""
        return bool(self.scale.lower_better)


def load_manifest(
    name: str,
    root: Path | str | None = None,
    split: str = "auto",
    split_seed: int = 0,
    on_bad_image: str = "error",
    mos_range: tuple[float, ...] | None = None,
    lower_better: bool | None = None,
    **columns: object,
) -> Manifest:
    """Read the labels, check every image, normalise the scores and assign the splits.

    Args:
        name: a dataset of ``specs``.
        root: its folder; ``None`` is ``data/<name>``.
        split, split_seed: see ``splits.assign_split``.
        on_bad_image: "error" lists all missing or unreadable photographs and stops; "skip" leaves
            them out and records them.
        mos_range, lower_better: ends and direction of the scale, if other than the spec's.
        columns: options of the reader: for ``folder`` labels, name_column, mos_column and
            group_column; for ``clive`` keep_training_images.

    Raises:
        LabError: any problem with the labels or the images.
    """
    spec = get_spec(name)
    root = find_root(spec, root)
    table = read_labels(spec, root, columns)
    scale = find_scale(spec, root, mos_range, lower_better)
    ends = scale[:2]
    raise_findings(check_labels(table, spec, ends), f"{spec.title} labels")
    table = table.drop(columns="where").assign(mos_raw=numbers(table["mos_raw"]))
    table, unlabelled = locate(table, root)
    if len(outside := outside_of(table, root)):
        raise LabError(f"photographs outside {root}; move them into it:\n{listing(outside)}")
    notes = [f"{len(unlabelled)} photographs without a label, not used"] if unlabelled else []
    table = table.join(build_image_index(table["path"], root))
    table, skipped = _drop_bad(table, spec, root, on_bad_image)
    table["mos"] = scale.normalised(table["mos_raw"])
    scenes = scenes_of(table)
    labelled = table
    table = with_scenes(table, scenes)
    table["split"], description = assign_split(table, split, split_seed)
    labelled = labelled.assign(split=table["split"])
    for finding in check_scale_used(table["mos_raw"], spec, ends):
        notes.append(str(finding))
        warnings.warn(notes[-1], stacklevel=2)
    for leak in check_leaks(labelled):
        notes.append(f"{leak.what}: {', '.join(leak.names[:6])}")
        warnings.warn(notes[-1], stacklevel=2)
    notes += [finding.what for finding in check_near_copies(labelled, scenes)]
    notes += [finding.what for finding in check_count(len(table), spec, columns)]
    if len(skipped):
        notes.append(f"{len(skipped)} photographs left out as missing or unreadable")
    if spec.note:
        notes.append(spec.note)
    return Manifest(spec, root, table, description, scale, skipped, tuple(notes))


def find_root(spec: DatasetSpec, root: Path | str | None) -> Path:
    """The dataset's folder; the demo set is made if it is missing.

    Raises:
        LabError: no such folder.
    """
    root = user_path(root).resolve() if root else data_dir() / spec.name
    if spec.name == "demo":
        make_demo(root)
    if not root.is_dir():
        raise LabError(
            f"no folder {root}.\n{spec.where(root)}\n"
            "Or give another folder: data_root in a notebook, root= in Python, --root for check."
        )
    return root


def find_scale(
    spec: DatasetSpec, root: Path, mos_range: Sequence[float] | None, lower_better: bool | None
) -> Scale:
    """The scale of a dataset's scores; ``None``: as in the spec.

    Raises:
        LabError: an invalid range.
    """
    ends = check_scale(mos_range or spec.mos_range)
    direction = spec.lower_better if lower_better is None else lower_better
    return Scale(*ends, direction, label_from(spec.name, root))


def reader_options(spec: DatasetSpec) -> list[str]:
    """Option names of a dataset's reader."""
    return list(inspect.signature(spec.read).parameters)[1:]


def read_labels(spec: DatasetSpec, root: Path, options: Mapping[str, object]) -> pd.DataFrame:
    """The reader's table, see ``official_labels_and_splits``.

    Raises:
        LabError: an option unknown to the reader, or an unreadable label file.
    """
    known = reader_options(spec)
    for name in options:
        if name not in known:
            raise unknown(f"option of {spec.name}", name, known)
    try:
        return spec.read(root, **options).reset_index(drop=True)
    except LabError as error:
        raise LabError(f"{error}\n{spec.where(root)}") from None


def locate(table: pd.DataFrame, root: Path) -> tuple[pd.DataFrame, list[str]]:
    """``table`` with ``path``, names matched to files regardless of case.

    Also returns the names of images in the same folders that have no label.
    """
    folders = sorted({str(Path(name).parent) for name in table["name"]})
    files: dict[str, str] = {}
    for folder in folders:
        if (root / folder).is_dir() and _inside(root / folder, root):
            for entry in os.scandir(root / folder):
                files.setdefault(f"{folder}/{entry.name}".removeprefix("./").lower(), entry.path)
    exact = [root / name for name in table["name"]]
    found = [
        path if path.is_file() else Path(files.get(name.lower().removeprefix("./"), path))
        for name, path in zip(table["name"], exact, strict=True)
    ]
    labelled = {str(path) for path in found}
    extra = [
        str(Path(path).relative_to(root))
        for path in files.values()
        if path not in labelled and Path(path).suffix.lower() in SUFFIXES
    ]
    return table.assign(path=found), sorted(extra)


def outside_of(table: pd.DataFrame, root: Path) -> list[str]:
    """Paths that lie outside the dataset's folder."""
    return [str(path) for path in table["path"] if not _inside(path, root)]


def _inside(path: Path, root: Path) -> bool:
    """Whether ``path``, with links resolved, lies in ``root``; a link to itself is a file."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def _drop_bad(
    table: pd.DataFrame, spec: DatasetSpec, root: Path, on_bad_image: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Readable images, and name and error of the others."""
    if on_bad_image not in ("error", "skip"):
        raise LabError(f"on_bad_image must be 'error' or 'skip', got {on_bad_image!r}.")
    bad = table["error"] != ""
    if bad.any() and on_bad_image == "error":
        raise LabError(
            f"{bad.sum()} of {len(table)} photographs cannot be used; fix them, or leave them "
            f"out by on_bad_image='skip':\n{listing(table.error[bad])}\n{spec.where(root)}"
        )
    if bad.all():
        raise LabError(f"no readable photograph.\n{spec.where(root)}")
    skipped = table.loc[bad, ["name", "error"]].reset_index(drop=True)
    return table[~bad].drop(columns="error").reset_index(drop=True), skipped
