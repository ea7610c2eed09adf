"""The usual protocol: train and test on several splits, report the median."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from ..core.config import resolves
from ..core.errors import LabError
from ..core.experiment import run_once
from ..core.identity import Identity
from ..core.runs import Run
from ..training.teacher_config import TrainConfig
from ..training.teacher_run import teacher_inputs, train_teacher
from .published_results import published

METRICS = ("srcc", "plcc", "plcc_logistic", "krcc", "rmse")


@resolves
def run_protocol(config: TrainConfig, splits: int = 10) -> pd.DataFrame:
    """Train and test on numbered splits; an interrupted protocol resumes.

    Split i is random with seed i, in its own run ``<run_name>-split-<i>``; if
    ``config.split_scheme`` is "official" or a file, the split is fixed and i seeds the training.
    The table is ``protocol.csv`` of the run ``<run_name>-protocol-<splits>``.

    Returns:
        A row per split: split, run, n, and the test metrics.

    Raises:
        LabError: fewer than one split, or what ``train_teacher`` raises.
    """
    if splits < 1:
        raise LabError(f"splits must be at least 1, got {splits}.")
    dataset = config.load_dataset()
    rename = config.run_name == config.made_up_name()

    def work(run: Run) -> dict:
        rows = []
        for i in range(splits):
            numbered: dict[str, Any] = {"seed": i}
            if config.split_scheme in ("auto", "random"):
                numbered = {"split_scheme": "random", "split_seed": i}
            name = f"{config.run_name}-split-{i}"
            asked = dataclasses.replace(config, run_name=name, **numbered)
            trained = train_teacher(asked, rename=rename)
            test = trained.summary()["metrics"]["test"]
            numbers = {key: test[key] for key in ("n", *METRICS)}
            rows.append({"split": i, "run": trained.name, **numbers})
            run.write_table("protocol", pd.DataFrame(rows))
        return {"splits": splits, "dataset": repr(dataset)}

    inputs = teacher_inputs(config, dataset)
    identity = Identity({**config.identity(), "splits": splits}, inputs, "protocol")
    name = protocol_name(config, splits)
    run = run_once(name, identity, work, config.compute(), inputs.notes, rename)
    return pd.read_csv(run.path / "protocol.csv", float_precision="round_trip")


def protocol_name(config: TrainConfig, splits: int) -> str:
    """Name of the run that holds a protocol's table."""
    return f"{config.run_name}-protocol-{splits}"


def summarize_splits(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Median, mean, standard deviation and a 95% interval of the median, a row per metric.

    The interval resamples splits 2,000 times. Test images of random splits overlap, so it is
    narrower than one over new images.
    """
    values = table[list(METRICS)].to_numpy(float)
    picks = np.random.default_rng(seed).integers(len(values), size=(2000, len(values)))
    low, high = np.percentile(np.median(values[picks], axis=1), (2.5, 97.5), axis=0)
    return pd.DataFrame(
        {
            "median": np.median(values, axis=0),
            "mean": values.mean(0),
            "std": values.std(0, ddof=1) if len(values) > 1 else np.nan,
            "low": low,
            "high": high,
        },
        index=list(METRICS),
    )


def beside_published(table: pd.DataFrame, config: TrainConfig) -> pd.DataFrame:
    """The medians of ``run_protocol``, followed by published results on that dataset."""
    middle = summarize_splits(table)["median"]
    drawn = config.split_scheme in ("auto", "random")
    kind = (
        f"{len(table)} random splits"
        if drawn
        else f"{len(table)} seeds, split {config.split_scheme}"
    )
    chosen = "val" if config.select_on == "val" else "the TEST part"
    ours = {
        "method": f"this run: {config.run_name}",
        "plcc": middle["plcc"],
        "srcc": middle["srcc"],
        "protocol": f"median of {kind}, checkpoint chosen on {chosen}",
        "source": f"runs/{protocol_name(config, len(table))}/protocol.csv",
    }
    return pd.concat([pd.DataFrame([ours]), published(config.dataset)], ignore_index=True)
