"""Scores, hashes and names of a dataset, or of any sequence of items."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..core.files import tensors_hash


def mos_of(dataset: Sequence) -> np.ndarray:
    """MOS (n,), from the dataset's table if it has one, else from its items."""
    if hasattr(dataset, "table"):
        return dataset.table["mos"].to_numpy(float)
    return np.array([float(dataset[i]["mos"]) for i in range(len(dataset))])


def content_of(dataset: Sequence) -> list[str]:
    """One hash per image: of its file if the dataset has a table, else of its pixels."""
    if hasattr(dataset, "table"):
        return list(dataset.table["hash"])
    return [tensors_hash({"image": dataset[i]["image"]}) for i in range(len(dataset))]


def content_table(splits: Mapping[str, Sequence]) -> pd.DataFrame:
    """``QualityDataset.content`` of sequences of items, by split."""
    tables = [
        pd.DataFrame({"sha256": content_of(items), "mos": mos_of(items), "split": split}).assign(
            name=names_of(items)
        )
        for split, items in splits.items()
    ]
    table = pd.concat(tables, ignore_index=True)
    return table.assign(dataset=table["split"])  # names may repeat across splits


def names_of(dataset: Sequence) -> list[str]:
    """One name per image: of its file if the dataset has a table, else its position."""
    if hasattr(dataset, "table"):
        return list(dataset.table["name"])
    return [str(i) for i in range(len(dataset))]
