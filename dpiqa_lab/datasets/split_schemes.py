"""Assigns images to train, val and test, by seed and with whole groups together."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from ..core.errors import LabError, listing, unknown
from .official_labels_and_splits import pick, read_table

SPLITS = ("train", "val", "test")
_KINDS = ("auto", "official", "random", "random-3", "a CSV file with the columns name and split")


def assign_split(table: pd.DataFrame, split: str = "auto", seed: int = 0) -> tuple[pd.Series, str]:
    """Split of every row, and a description of how it was assigned.

    Args:
        table: ``name``, and if known ``split`` and ``group``.
        split: "official" is the release's own; "random" is 70/10/20 by ``seed``, whole groups
            together, and "random-3" the same by seed 3; "auto" is official if available, else
            random; anything else is a CSV file with the columns name and split. Without val, a
            tenth of train becomes val, by ``seed``.

    Raises:
        LabError: no official split, an empty or unknown split, or a file that does not match.
    """
    if split == "auto":
        split = "official" if "split" in table else "random"
    if numbered := re.fullmatch(r"random-(\d+)", split):
        split, seed = "random", int(numbered[1])
    if split == "random":
        assigned = _by_share(table, seed, {"test": 0.2, "val": 0.1})
        described = f"random split 70/10/20, seed {seed}"
    else:
        if split == "official":
            if "split" not in table:
                raise LabError("this dataset has no official split; use split_scheme='random'.")
            assigned, described = table["split"].copy(), "official split"
        else:
            if not Path(split).suffix and not Path(split).is_file():
                raise unknown("split_scheme", split, _KINDS)
            assigned, described = _from_file(table, Path(split)), f"split of {Path(split).name}"
        wrong = sorted(set(assigned.astype(str)) - set(SPLITS))
        if wrong:
            raise LabError(
                f"unknown splits {wrong} in the {described}; expected {', '.join(SPLITS)}."
            )
        if "val" not in set(assigned):
            train = table[assigned == "train"]
            assigned[train.index] = _by_share(train, seed, {"val": 0.1})
            described += f", val = a tenth of its train part, seed {seed}"
    empty = [name for name in SPLITS if not (assigned == name).any()]
    if empty:
        raise LabError(f"the {described} leaves {', '.join(empty)} without photographs.")
    return assigned, described


def folds(table: pd.DataFrame, k: int, seed: int = 0) -> list[pd.Series]:
    """``k`` splits with every group in test once: scikit-learn's ``GroupKFold``.

    Folds depend on the names and sizes of groups, not on the order of rows. A tenth of the rows
    outside test becomes val, by ``seed``.
    """
    from sklearn.model_selection import GroupKFold

    result = []
    for others, _ in GroupKFold(k).split(table, groups=groups_of(table)):
        assigned = pd.Series("test", index=table.index)
        rest = table.iloc[others]
        assigned[rest.index] = _by_share(rest, seed, {"val": 0.1})
        result.append(assigned)
    return result


def groups_of(table: pd.DataFrame) -> pd.Series:
    """Group of each row: its ``group``, or its ``name`` if it has none."""
    return table["group"].fillna(table["name"]) if "group" in table else table["name"]


def _by_share(table: pd.DataFrame, seed: int, shares: dict[str, float]) -> pd.Series:
    """Shuffled whole groups, cut at the shares; the rest is train."""
    groups = groups_of(table)
    names = np.random.default_rng(seed).permutation(np.sort(groups.unique()))
    sizes = groups.value_counts()[names].to_numpy()
    middle = (np.cumsum(sizes) - sizes / 2) / len(table)
    assigned = np.full(len(names), "train", dtype=object)
    start, edge = 0, 0.0
    for split, share in shares.items():
        edge += share
        # At least one group per split, even if a group is larger than the share.
        stop = max(start + 1, int((middle < edge).sum()))
        assigned[start:stop] = split
        start = stop
    return groups.map(dict(zip(names, assigned, strict=True)))


def _from_file(table: pd.DataFrame, path: Path) -> pd.Series:
    rows = pick(read_table(path), path, name="name", split="split")
    repeated = rows["name"][rows["name"].duplicated()]
    if len(repeated):
        raise LabError(f"{path}: names given twice:\n" + listing(repeated))
    assigned = table["name"].map(rows.set_index("name")["split"])
    if assigned.isna().any():
        raise LabError(
            f"{path}: no split for these photographs:\n" + listing(table.name[assigned.isna()])
        )
    return assigned
