"""What can be known of a part of a dataset without opening its photographs."""

from collections.abc import Sequence

import numpy as np

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
