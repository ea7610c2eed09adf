"""Timestep ablation by layer, with and without noise, prompts and pretrained weights."""

import dataclasses

import numpy as np
import pandas as pd

from ..core.config import resolves
from ..core.runs import Run
from ..datasets.dataset import QualityDataset
from ..datasets.dataset_config import DatasetConfig
from ..datasets.image_statistics import cached_statistics
from ..diffusion.presets import find_preset
from ..probing.features import Features
from ..probing.probe import concat_features
from ..probing.probe_config import AblationConfig
from ..probing.probe_runs import probe_backbone, probe_features, probe_run, probe_summary
from ..probing.repeats import (
    best_on_val,
    chosen_on_val,
    numbered_splits,
    probe_grid,
    repeat_probe,
    summarize_probes,
)
from ..training.teacher_config import TrainConfig
from ..training.teacher_run import train_teacher

ASKED = "as asked"
FLOOR = "simple statistics"


def variants(config: AblationConfig) -> dict[str, AblationConfig]:
    """Configs by variant name; the first is the given one."""
    result = {ASKED: config}
    config = dataclasses.replace(config, timesteps=config.other_timesteps or config.timesteps)
    if config.other_noise:
        noise = ("with noise", config.seed) if config.noise_seed is None else ("no noise", None)
        result[noise[0]] = dataclasses.replace(config, noise_seed=noise[1])
    if config.other_prompts:
        without = config.prompts == "none"
        other = find_preset(config.backbone).prompts if without else "none"
        name = f"prompts: {other}" if without else "no prompts"
        result[name] = dataclasses.replace(config, prompts=other)
    if config.random_init_control and not config.random_weights:
        result["random weights"] = dataclasses.replace(config, random_weights=True)
    return result


@resolves
def run_ablation(config: AblationConfig) -> Run:
    """Probe every variant, timestep and tap, or reuse the run of that name.

    Tables of the run: ``probes.csv`` (a row per variant, timestep, tap and split), ``ablation.csv``
    (medians and ranges), ``combinations.csv`` (see ``combinations``) and, if configured,
    ``end_to_end.csv`` (see ``train_at_timesteps``). The variant "simple statistics" has no
    timestep.

    Raises:
        LabError: bad input, before any long work.
    """

    def work(run: Run, dataset: QualityDataset) -> dict:
        splits = numbered_splits(dataset.table, config.splits, config.seed)
        tables = []
        for name, variant in variants(config).items():
            print(f"variant: {name}")
            features = probe_features(variant, dataset)
            tables.append(probe_grid(features, splits, [config.poolings]).assign(variant=name))
            if name == ASKED:
                asked, gained = tables[0], combinations(features, splits, tables[0], config)
        if config.simple_statistics:
            found = repeat_probe(cached_statistics(dataset), dataset.table, splits)
            tables.append(found.assign(variant=FLOOR, tap="ten statistics"))
        rows = pd.concat(tables, ignore_index=True)
        rows["timestep"] = rows["timestep"].astype("Int64")
        run.write_table("probes", rows)
        run.write_table("ablation", medians(rows))
        run.write_table("combinations", gained)
        if config.end_to_end:
            run.write_table("end_to_end", train_at_timesteps(config, dataset, run.name))
        best = best_on_val(asked[asked["tap"] != "all"])
        return probe_summary(dataset, probe_backbone(config), asked, *best)

    return probe_run(config, work)


def medians(rows: pd.DataFrame) -> pd.DataFrame:
    """``summarize_probes`` for each variant, timestep (may be missing) and tap."""
    parts = []
    for (variant, tap), part in rows.groupby(["variant", "tap"], sort=False):
        by = ["timestep"] if part["timestep"].notna().all() else ["statistic"]
        filled = part.assign(statistic=part["statistic"].fillna(""))
        parts.append(summarize_probes(filled, by).assign(variant=variant, tap=tap))
    table = pd.concat(parts, ignore_index=True)
    first = ["variant", "timestep", "tap"]
    return table[[*first, *table.columns.drop([*first, "statistic"], errors="ignore")]]


def combinations(
    features: Features, splits: list[pd.Series], rows: pd.DataFrame, config: AblationConfig
) -> pd.DataFrame:
    """Gain of concatenated layers or timesteps over the best single one, each chosen on val.

    Args:
        rows: ``probe_grid`` of these features and splits.

    Returns:
        A row per combination: srcc and plcc over splits, and ``gain`` with ``_low`` and ``_high``:
        SRCC - that of the best single one in the same split, median and range.
    """
    through_time = [
        repeat_probe(concat_features(features, None, tap, config.poolings), features.table, splits)
        for tap in features.taps
    ]
    several = {
        "one tap, one timestep": rows[rows["tap"] != "all"],
        "all taps, one timestep": rows[rows["tap"] == "all"],
        "one tap, all timesteps": pd.concat(through_time, ignore_index=True),
    }
    found = {name: chosen_on_val(table) for name, table in several.items() if len(table)}
    single = found["one tap, one timestep"]["srcc"].to_numpy()
    result = []
    for name, table in found.items():
        gains = table["srcc"].to_numpy() - single
        low, high = np.nanquantile(gains, (0.025, 0.975))
        (values,) = summarize_probes(table.assign(combination=name), ["combination"]).to_dict(
            "records"
        )
        gain = {"gain": np.nanmedian(gains), "gain_low": low, "gain_high": high}
        result.append({**values, **gain})
    return pd.DataFrame(result)


def train_at_timesteps(config: AblationConfig, dataset: QualityDataset, name: str) -> pd.DataFrame:
    """Short teacher trainings that differ only in timestep.

    Each is a separate run, ``<name>-t<timestep>``, which resumes after interruption.

    Returns:
        A row per timestep: timestep, run, n, srcc, srcc_low, srcc_high (95% bootstrap interval over
        test images), plcc.
    """
    names = [field.name for field in dataclasses.fields(DatasetConfig)]
    names += ["backbone", "revision", "random_weights", "prompts", "seed", "device", "precision"]
    shared = {name: getattr(config, name) for name in (*names, "workers")}
    if not config.compute().trains:
        shared["precision"] = "auto"
    steps = config.end_to_end_steps
    rows = []
    for timestep in config.end_to_end_timesteps:
        asked = TrainConfig(
            **shared,
            timestep=timestep,
            max_steps=steps,
            validate_every=max(1, steps // 4),
            run_name=f"{name}-t{timestep}",
        )
        run = train_teacher(asked.resolve(), dataset, rename=True)
        test = run.summary()["metrics"]["test"]
        low, high = test["srcc_ci"]
        row = {"timestep": timestep, "run": run.name, "n": test["n"], "srcc": test["srcc"]}
        rows.append({**row, "srcc_low": low, "srcc_high": high, "plcc": test["plcc"]})
    return pd.DataFrame(rows)
