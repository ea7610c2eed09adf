"""Who is in train, val and test: decided once, seeded, whole groups together."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from ..core.errors import LabError, listing, unknown
from .label_tables import pick, read_table

SPLITS = ("train", "val", "test")
_KINDS = ("auto", "official", "random", "random-3", "a CSV file with the columns name and split")


def assign_split(table: pd.DataFrame, split: str = "auto", seed: int = 0) -> tuple[pd.Series, str]:
    """The part of every row, and a sentence that says how it was decided.

    Args:
        table: ``name``, and where known ``split`` and ``group``.
        split: "official" is the release's own; "random" is 70/10/20 by ``seed``, whole groups
            together, and "random-3" the same by seed 3; "auto" the first where there is one, else
            the second; anything else is a CSV file with the columns name and split. Where a split
            has no val part, a tenth of its train part is taken, by ``seed``.

    Raises:
        LabError: no official split, a part that is empty or unknown, or a file that does not fit.
    """
    if split == "auto":
        split = "official" if "split" in table else "random"
    if numbered := re.fullmatch(r"random-(\d+)", split):
        split, seed = "random", int(numbered[1])
    if split == "random":
        parts = _by_share(table, seed, {"test": 0.2, "val": 0.1})
        said = f"random split 70/10/20, seed {seed}"
    else:
        if split == "official":
            if "split" not in table:
                raise LabError("this dataset has no official split; use split_scheme='random'.")
            parts, said = table["split"].copy(), "official split"
        else:
            if not Path(split).suffix and not Path(split).is_file():
                raise unknown("split_scheme", split, _KINDS)
            parts, said = _from_file(table, Path(split)), f"split of {Path(split).name}"
        wrong = sorted(set(parts.astype(str)) - set(SPLITS))
        if wrong:
            raise LabError(f"unknown parts {wrong} in the {said}; expected {', '.join(SPLITS)}.")
        if "val" not in set(parts):
            train = table[parts == "train"]
            parts[train.index] = _by_share(train, seed, {"val": 0.1})
            said += f", val = a tenth of its train part, seed {seed}"
    empty = [part for part in SPLITS if not (parts == part).any()]
    if empty:
        raise LabError(f"the {said} leaves {', '.join(empty)} without photographs.")
    return parts, said


def folds(table: pd.DataFrame, k: int, seed: int = 0) -> list[pd.Series]:
    """``k`` splits in which every group is in test once: scikit-learn's ``GroupKFold``.

    Which groups test together follows from their names and sizes, not from the order of the rows.
    Of what is not in test a tenth is val, by ``seed``.
    """
    from sklearn.model_selection import GroupKFold

    result = []
    for others, _ in GroupKFold(k).split(table, groups=groups_of(table)):
        parts = pd.Series("test", index=table.index)
        rest = table.iloc[others]
        parts[rest.index] = _by_share(rest, seed, {"val": 0.1})
        result.append(parts)
    return result


def groups_of(table: pd.DataFrame) -> pd.Series:
    """What each row belongs to: its ``group``, or its ``name`` where it has none."""
    return table["group"].fillna(table["name"]) if "group" in table else table["name"]


def _by_share(table: pd.DataFrame, seed: int, shares: dict[str, float]) -> pd.Series:
    """Shuffled whole groups, cut at the shares; what is left is train."""
    groups = groups_of(table)
    names = np.random.default_rng(seed).permutation(np.sort(groups.unique()))
    sizes = groups.value_counts()[names].to_numpy()
    middle = (np.cumsum(sizes) - sizes / 2) / len(table)
    parts = np.full(len(names), "train", dtype=object)
    start = edge = 0
    for part, share in shares.items():
        edge += share
        # At least one group a part, even where one group is larger than the share.
        stop = max(start + 1, int((middle < edge).sum()))
        parts[start:stop] = part
        start = stop
    return groups.map(dict(zip(names, parts, strict=True)))


def _from_file(table: pd.DataFrame, path: Path) -> pd.Series:
    rows = pick(read_table(path), path, name="name", split="split")
    repeated = rows["name"][rows["name"].duplicated()]
    if len(repeated):
        raise LabError(f"{path}: names given twice:\n" + listing(repeated))
    parts = table["name"].map(rows.set_index("name")["split"])
    if parts.isna().any():
        raise LabError(
            f"{path}: no part for these photographs:\n" + listing(table.name[parts.isna()])
        )
    return parts
