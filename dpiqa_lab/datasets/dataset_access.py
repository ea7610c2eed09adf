"""What can be known of a part of a dataset, or of any sequence of items, for its record."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..core.files import tensors_hash


def mos_of(dataset: Sequence) -> np.ndarray:
    """MOS (n,) of a part, from its table where it has one, else from its items."""
    if hasattr(dataset, "table"):
        return dataset.table["mos"].to_numpy(float)
    return np.array([float(dataset[i]["mos"]) for i in range(len(dataset))])


def content_of(dataset: Sequence) -> list[str]:
    """A hash a photograph: of its file where the part has a table, else of its pixels."""
    if hasattr(dataset, "table"):
        return list(dataset.table["hash"])
    return [tensors_hash({"image": dataset[i]["image"]}) for i in range(len(dataset))]


def content_table(parts: Mapping[str, Sequence]) -> pd.DataFrame:
    """``QualityDataset.content`` of sequences of items by the split that each is."""
    tables = [
        pd.DataFrame({"sha256": content_of(part), "mos": mos_of(part), "split": split}).assign(
            name=names_of(part)
        )
        for split, part in parts.items()
    ]
    table = pd.concat(tables, ignore_index=True)
    return table.assign(dataset=table["split"])  # a name may stand in two of them


def names_of(dataset: Sequence) -> list[str]:
    """A name a photograph: of its file where the part has a table, else its position."""
    if hasattr(dataset, "table"):
        return list(dataset.table["name"])
    return [str(i) for i in range(len(dataset))]
