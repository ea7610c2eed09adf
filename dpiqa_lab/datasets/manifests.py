"""From a label table to photographs on disk with normalised scores, every problem told at once."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..core.errors import LabError, listing
from ..core.paths import data_dir
from .demo import make_demo
from .images import SUFFIXES
from .inventory import take_inventory
from .specs import DatasetSpec, get_spec
from .splits import assign_split


@dataclass(frozen=True)
class Manifest:
    """A dataset as found.

    Attributes:
        table: one row a photograph: name, path, mos_raw, mos in [0,1] (higher is better), split,
            hash, height, width, and where known subset and group.
        split: sentence on how the parts were decided.
        skipped: photographs left out by ``on_bad_image="skip"``: name and error.
        notes: what a reader of the results should know.
    """

    spec: DatasetSpec
    root: Path
    table: pd.DataFrame
    split: str
    mos_range: tuple[float, float]
    lower_better: bool
    skipped: pd.DataFrame
    notes: tuple[str, ...]


def load_manifest(
    name: str,
    root: Path | str | None = None,
    split: str = "auto",
    split_seed: int = 0,
    on_bad_image: str = "error",
    mos_range: tuple[float, ...] | None = None,
    lower_better: bool | None = None,
    **columns,
) -> Manifest:
    """Read labels, find and check every photograph, normalise the scores and decide the parts.

    Args:
        name: a dataset of ``specs``.
        root: its folder; ``None`` is ``data/<name>``.
        split, split_seed: see ``splits.assign_split``.
        on_bad_image: "error" lists all missing or unreadable photographs and stops; "skip" leaves
            them out and records them.
        mos_range, lower_better: ends and direction of the scale, where they differ from the spec's.
        columns: for ``folder``: labels, name_column, mos_column, group_column.

    Raises:
        LabError: anything wrong with the labels or the photographs, before any long work.
    """
    spec = get_spec(name)
    root = Path(root).expanduser().resolve() if root else data_dir() / name
    if name == "demo":
        make_demo(root)
    if not root.is_dir():
        raise LabError(f"no folder {root}.\n{spec.where(root)}\nOr name another by data_root.")
    try:
        table = spec.read(root, **columns)
    except LabError as error:
        raise LabError(f"{error}\n{spec.where(root)}") from None
    low, high = mos_range = _scale(mos_range or spec.mos_range)
    lower_better = spec.lower_better if lower_better is None else lower_better
    _check_labels(table, spec, mos_range)
    table, notes = _find(table, root)
    table = table.join(take_inventory(table["path"], root))
    table, skipped = _set_bad_aside(table, spec, root, on_bad_image)
    scaled = (table["mos_raw"] - low) / (high - low)
    table["mos"] = 1 - scaled if lower_better else scaled
    table["split"], said = assign_split(table, split, split_seed)
    notes += _repeated(table)
    if spec.count and len(table) < spec.count:
        notes.append(f"subset: {len(table):,} of {spec.count:,}")
    if len(skipped):
        notes.append(f"{len(skipped)} photographs left out as missing or unreadable")
    if spec.note:
        notes.append(spec.note)
    return Manifest(spec, root, table, said, mos_range, lower_better, skipped, tuple(notes))


def _scale(mos_range) -> tuple[float, float]:
    if len(mos_range) != 2 or not mos_range[0] < mos_range[1]:
        raise LabError(f"mos_range must be two numbers, lowest first, got {mos_range!r}.")
    return float(mos_range[0]), float(mos_range[1])


def _check_labels(table: pd.DataFrame, spec: DatasetSpec, mos_range: tuple[float, float]) -> None:
    problems = []
    if not len(table):
        problems.append("no rows")
    repeated = table["name"][table["name"].duplicated()]
    if len(repeated):
        problems.append(f"{len(repeated)} photographs labelled twice:\n{listing(repeated)}")
    outside = table[~table["mos_raw"].between(*mos_range)]
    if len(outside):
        rows = [f"{row['name']}: {row.mos_raw:g}" for _, row in outside.iterrows()]
        low, high = mos_range
        problems.append(
            f"{len(outside)} scores outside {low:g} to {high:g} (set mos_range if the scale is "
            f"another):\n{listing(rows)}"
        )
    if problems:
        raise LabError(f"{spec.title} labels: " + "\n".join(problems))


def _find(table: pd.DataFrame, root: Path) -> tuple[pd.DataFrame, list[str]]:
    """Add ``path``; names match files whatever their case. Notes tell of files without a label."""
    folders = sorted({str(Path(name).parent) for name in table["name"]})
    files = {}
    for folder in folders:
        if (root / folder).is_dir():
            for entry in os.scandir(root / folder):
                files.setdefault(f"{folder}/{entry.name}".removeprefix("./").lower(), entry.path)
    table = table.reset_index(drop=True)
    exact = [root / name for name in table["name"]]
    found = [
        path if path.is_file() else Path(files.get(name.lower().removeprefix("./"), path))
        for name, path in zip(table["name"], exact, strict=True)
    ]
    outside = [str(p) for p in found if not p.resolve().is_relative_to(root.resolve())]
    if outside:
        raise LabError(f"photographs outside {root}; move them inside:\n{listing(outside)}")
    labelled = {str(path) for path in found}
    extra = sum(
        path not in labelled and Path(path).suffix.lower() in SUFFIXES for path in files.values()
    )
    notes = [f"{extra} photographs without a label, not used"] if extra else []
    return table.assign(path=found), notes


def _set_bad_aside(table: pd.DataFrame, spec: DatasetSpec, root: Path, on_bad_image: str):
    if on_bad_image not in ("error", "skip"):
        raise LabError(f"on_bad_image must be 'error' or 'skip', got {on_bad_image!r}.")
    bad = table["error"] != ""
    if bad.any() and on_bad_image == "error":
        raise LabError(
            f"{bad.sum()} of {len(table)} photographs cannot be used; mend them, or go on without "
            f"them by on_bad_image='skip':\n{listing(table.error[bad])}\n{spec.where(root)}"
        )
    if bad.all():
        raise LabError(f"no readable photograph.\n{spec.where(root)}")
    skipped = table.loc[bad, ["name", "error"]].reset_index(drop=True)
    return table[~bad].drop(columns="error").reset_index(drop=True), skipped


def _repeated(table: pd.DataFrame) -> list[str]:
    """Notes on the same file content in two parts, which would make a test too easy."""
    parts = table.groupby("hash")["split"].nunique()
    leaked = table[table["hash"].isin(parts[parts > 1].index)].sort_values("hash")
    if not len(leaked):
        return []
    names = ", ".join(leaked["name"].head(6))
    message = f"{len(leaked)} photographs with equal content stand in different parts: {names}"
    warnings.warn(message, stacklevel=3)
    return [message]
