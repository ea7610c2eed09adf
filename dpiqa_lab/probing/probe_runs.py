"""Probing runs: features of every timestep and tap, and linear probes on them."""

from collections.abc import Callable

import pandas as pd

from ..core.config import resolves
from ..core.device import keep_freed_memory
from ..core.experiment import experiment
from ..core.identity import Inputs
from ..core.runs import Run
from ..datasets.dataset import QualityDataset
from ..diffusion.backbone import Backbone, describe_record
from ..diffusion.loading import load_backbone
from ..diffusion.model_inputs import backbone_inputs
from ..diffusion.taps import block_taps
from .correlations import channel_correlations
from .features import POOLINGS, Features, extract_features
from .probe import concat_features
from .probe_config import CommonProbeConfig, ProbeConfig
from .repeats import best_on_val, label_curve, numbered_splits, probe_grid, summarize_probes


def probe_backbone(config: CommonProbeConfig) -> Backbone:
    """The configured backbone."""
    return load_backbone(config.backbone, config.random_weights, config.revision)


def probe_features(
    config: CommonProbeConfig,
    dataset: QualityDataset | None = None,
    backbone: Backbone | None = None,
) -> Features:
    """The configured features, from the cache where available.

    Args:
        dataset, backbone: the configured ones, if already loaded.
    """
    backbone = backbone or probe_backbone(config)
    return extract_features(
        backbone,
        dataset or config.load_dataset(),
        config.timesteps,
        config.taps or block_taps(backbone.unet),
        config.prompts,
        config.noise_seed,
        compute=config.compute(),
        batch_size=config.batch_size,
        workers=config.workers,
    )


def probe_run(config: CommonProbeConfig, work: Callable[[Run, QualityDataset], dict]) -> Run:
    """``experiment`` on the configured dataset and backbone.

    Raises:
        LabError: see ``open_run`` and ``load_dataset``; what ``work`` raises.
    """
    keep_freed_memory()
    dataset = config.load_dataset()
    return experiment(config, probe_inputs(config, dataset), lambda run: work(run, dataset))


def probe_inputs(config: CommonProbeConfig, dataset: QualityDataset | None = None) -> Inputs:
    """Inputs of a probing run; ``dataset`` overrides the configured one."""
    models = backbone_inputs(
        config.backbone, config.prompts, config.random_weights, config.revision
    )
    return (dataset or config.load_dataset()).inputs(models)


@resolves
def run_probe(config: ProbeConfig) -> Run:
    """Probe every timestep and tap, or reuse the run of that name.

    Tables of the run: ``probes.csv`` (see ``probe_grid``),
    ``statistics.csv`` (the same at the best timestep, statistic by statistic), ``labels.csv`` (see
    ``label_curve``; the best tap, and all concatenated) and ``channels.csv`` (see
    ``channel_correlations``). The best timestep and tap have the highest median SRCC on val;
    ``metrics.test`` are their medians on test over splits.

    Raises:
        LabError: bad input, before any long work.
    """

    def work(run: Run, dataset: QualityDataset) -> dict:
        backbone = probe_backbone(config)
        features = probe_features(config, dataset, backbone)
        splits = numbered_splits(features.table, config.splits, config.seed)
        rows = probe_grid(features, splits, [config.poolings])
        timestep, tap = best_on_val(rows[rows["tap"] != "all"])
        statistics = [*((pooling,) for pooling in POOLINGS), config.poolings]
        statistics = list(dict.fromkeys(statistics))
        run.write_table("probes", rows)
        run.write_table("statistics", probe_grid(features, splits, statistics, [timestep]))
        curves = [
            label_curve(
                concat_features(features, timestep, taps, config.poolings),
                features.table,
                splits,
                config.label_shares,
            ).assign(timestep=timestep, tap=taps or "all")
            for taps in (tap, None)
        ]
        run.write_table("labels", pd.concat(curves, ignore_index=True))
        run.write_table("channels", channel_correlations(features))
        return probe_summary(dataset, backbone, rows, timestep, tap)

    return probe_run(config, work)


def probe_summary(
    dataset: QualityDataset, backbone: Backbone, rows: pd.DataFrame, timestep: int, tap: str
) -> dict:
    """Summary of a probing run whose best timestep and tap are given."""
    chosen = rows[(rows["timestep"] == timestep) & (rows["tap"] == tap)]
    (found,) = summarize_probes(chosen).to_dict("records")
    test = {"n": int(found["n"]), "srcc": found["srcc"], "plcc": found["plcc"]}
    for name in ("srcc", "plcc"):
        test[f"{name}_ci"] = [found[f"{name}_low"], found[f"{name}_high"]]
    notes = list(dataset.manifest.notes)
    notes.append(
        f"test numbers are medians over {found['splits']} random splits, with the range that holds "
        "95% of them; the timestep and the tap were chosen on val"
    )
    if backbone.record["random_weights"]:
        notes.append("the backbone has RANDOM weights: no diffusion prior is at work")
    return {
        "metrics": {"test": test},
        "best": {"timestep": int(timestep), "tap": tap},
        "backbone": describe_record(backbone.record),
        "dataset": repr(dataset),
        "photographs": len(dataset),
        "notes": notes,
    }
