"""Published results with source and protocol, for comparison."""

import pandas as pd

_DPIQA = "Fu et al., arXiv 2405.19996"
_QUOTED = "as quoted beside DP-IQA, arXiv 2405.19996"
_RANDOM = "random 80/20 split"
_CHOSEN = f"{_RANDOM}, best epoch chosen on the test part"
_OFFICIAL = "official test part"
_BIQ = "the authors of BIQ2021"
# Dataset, method, PLCC, SRCC, protocol, source. PLCC is raw: without a logistic mapping.
_ROWS = [
    ("clive", "DP-IQA", 0.913, 0.893, _CHOSEN, _DPIQA),
    ("clive", "DP-IQA, re-run on its authors' code", 0.911, 0.891, _CHOSEN, _QUOTED),
    ("clive", "Re-IQA", 0.854, 0.840, _RANDOM, "Saha et al., arXiv 2304.00451"),
    ("clive", "LoDa", 0.899, 0.876, _RANDOM, _QUOTED),
    ("clive", "HyperIQA", 0.882, 0.859, _RANDOM, _QUOTED),
    ("clive", "BRISQUE", 0.621, 0.601, _RANDOM, _QUOTED),
    ("koniq", "DP-IQA", 0.951, 0.942, _CHOSEN, _DPIQA),
    ("koniq", "DP-IQA, re-run on its authors' code", 0.949, 0.941, _CHOSEN, _QUOTED),
    ("koniq", "Re-IQA", 0.923, 0.914, _RANDOM, "Saha et al., arXiv 2304.00451"),
    ("koniq", "LoDa", 0.944, 0.932, _RANDOM, _QUOTED),
    ("koniq", "HyperIQA", 0.917, 0.906, _RANDOM, _QUOTED),
    ("koniq", "BRISQUE", 0.702, 0.715, _RANDOM, _QUOTED),
    ("livefb", "DP-IQA", 0.683, 0.579, _CHOSEN, _DPIQA),
    ("livefb", "DP-IQA, re-run on its authors' code", 0.681, 0.578, _CHOSEN, _QUOTED),
    ("livefb", "Re-IQA", 0.733, 0.645, _OFFICIAL, "Saha et al., arXiv 2304.00451"),
    ("livefb", "LoDa", 0.679, 0.578, _RANDOM, _QUOTED),
    ("livefb", "HyperIQA", 0.623, 0.535, _RANDOM, _QUOTED),
    ("livefb", "BRISQUE", 0.356, 0.320, _RANDOM, _QUOTED),
    ("spaq", "DP-IQA", 0.926, 0.923, _CHOSEN, _DPIQA),
    ("spaq", "Re-IQA", 0.925, 0.918, _RANDOM, "Saha et al., arXiv 2304.00451"),
    ("spaq", "LoDa", 0.928, 0.925, _RANDOM, _QUOTED),
    ("spaq", "HyperIQA", 0.919, 0.916, _RANDOM, _QUOTED),
    ("spaq", "BRISQUE", 0.806, 0.802, _RANDOM, _QUOTED),
    ("biq2021", "NIQE", 0.30, 0.27, _OFFICIAL, _BIQ),
    ("biq2021", "BRISQUE", 0.694, 0.604, _OFFICIAL, _BIQ),
    ("biq2021", "ResNet-50", 0.686, 0.647, _OFFICIAL, _BIQ),
    ("biq2021", "NASNet-Large", 0.708, 0.673, _OFFICIAL, _BIQ),
    ("biq2021", "ensemble of CNNs", 0.810, 0.792, _OFFICIAL, _BIQ),
]


def published(dataset: str) -> pd.DataFrame:
    """method, plcc, srcc, protocol, source of results published on a dataset; may be empty."""
    columns = ["dataset", "method", "plcc", "srcc", "protocol", "source"]
    table = pd.DataFrame(_ROWS, columns=columns)
    return table[table["dataset"] == dataset].drop(columns="dataset").reset_index(drop=True)


def compare_with_published(results: pd.DataFrame, split: str = "test") -> pd.DataFrame:
    """The rows of an evaluation, followed by published results on the same datasets.

    Args:
        results: see ``agreement.cross_table``.

    Returns:
        A row per method: dataset, method, plcc (raw), srcc, protocol, source; none for datasets
        without published results.
    """
    columns = ["dataset", "method", "plcc", "srcc", "protocol", "source"]
    tables = []
    for dataset, rows in results[results["subset"] == "all"].groupby("dataset", sort=False):
        others = published(dataset)
        if len(others):
            rows = rows[rows["error"] == ""].rename(columns={"model": "method"})
            here = rows[["method", "plcc", "srcc"]].assign(
                protocol=f"one split, its {split} part", source="this evaluation"
            )
            tables.append(pd.concat([here, others]).assign(dataset=dataset))
    if not tables:
        return pd.DataFrame(columns=columns)
    return pd.concat(tables, ignore_index=True)[columns]
