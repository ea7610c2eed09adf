"""Component ablation of the teacher: trainings without one component each, from several seeds."""

import dataclasses

import numpy as np
import pandas as pd

from .. import metrics
from ..core.config import resolves
from ..core.experiment import experiment
from ..core.runs import Run
from ..datasets.dataset import QualityDataset
from ..training.teacher_run import teacher_inputs, train_teacher
from .component_ablation_config import ComponentsConfig

ALL = "all"


@resolves
def run_components(config: ComponentsConfig) -> Run:
    """Train every variant from every seed, and compare each with the first.

    Each training is a separate run: an interrupted ablation resumes, and with more variants or
    seeds (a run of another name) only new ones are trained. Tables of the run: ``trainings.csv``
    and ``predictions.csv`` (see ``train_variants``), ``components.csv`` (see
    ``compare_components``).

    Raises:
        LabError: bad input, before any long work.
    """
    dataset = config.load_dataset()

    def work(run: Run) -> dict:
        trainings, predictions = train_variants(config, dataset)
        run.write_table("trainings", trainings)
        run.write_table("predictions", predictions)
        run.write_table("components", compare_components(trainings, predictions))
        notes = [
            *dataset.manifest.notes,
            _share_note(config.train_fraction, "each training's seed"),
        ]
        return {"dataset": repr(dataset), "notes": notes}

    return experiment(config, teacher_inputs(config, dataset), work)


def train_variants(
    config: ComponentsConfig, dataset: QualityDataset
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One training per variant and seed, seed by seed.

    Returns:
        A row per variant, seed and subset (``ALL`` first): variant, seed, run, subset, n, srcc,
        srcc_low, srcc_high (95% bootstrap interval over test images), plcc; steps, and best_step,
        that of the tested weights: 0 if val never improved on the start.
        And a row per variant, seed and test image: variant, seed, name, mos, score, split, and
        subset and group if known.
    """
    rows, predictions = [], []
    for seed in range(config.seed, config.seed + config.seeds):
        part = thinned(dataset, config.train_fraction, seed, config.max_test_images, config.seed)
        assert config.variants is not None  # resolved
        for variant in config.variants:
            print(f"variant: {variant}, seed {seed}")
            run = train_teacher(config.training(variant, seed), part, rename=True)
            predictions.append(
                run.predictions().query("split == 'test'").assign(variant=variant, seed=seed)
            )
            summary = run.summary()
            test = summary["metrics"]["test"]
            for subset, found in {ALL: test, **test.get("subsets", {})}.items():
                low, high = found["srcc_ci"]
                row = {"variant": variant, "seed": seed, "run": run.name, "subset": subset}
                row |= {"n": found["n"], "srcc": found["srcc"], "srcc_low": low, "srcc_high": high}
                row |= {"plcc": found["plcc"]}
                rows.append({**row, "steps": summary["steps"], "best_step": summary["best_step"]})
    return pd.DataFrame(rows), pd.concat(predictions, ignore_index=True)


def compare_components(trainings: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of ``train_variants``' rows, and gains over the first variant.

    Returns:
        A row per variant and subset: variant, subset, seeds, and means over seeds of srcc, plcc and
        ``gain`` (SRCC - that of the first variant with the same seed); each with ``_low`` and
        ``_high``, the 95% Student's t interval over seeds (train images and initialisation), with
        fixed test images; NaN for one seed. ``gain_test_low``, ``gain_test_high``: the 95%
        bootstrap interval of the gain over test images (or their groups), with fixed trainings.
    """
    from scipy.stats import ttest_1samp

    first = trainings[trainings["variant"] == trainings["variant"].iloc[0]]
    known = first[["seed", "subset", "srcc"]].rename(columns={"srcc": "first"})
    rows = trainings.merge(known, on=["seed", "subset"])
    rows["gain"] = rows["srcc"] - rows["first"]
    result = []
    for (variant, subset), part in rows.groupby(["variant", "subset"], sort=False):
        row = {"variant": variant, "subset": subset, "seeds": len(part)}
        for name in ("srcc", "plcc", "gain"):
            values = part[name].to_numpy(float)
            low = high = float("nan")
            if len(values) > 1:
                low, high = ttest_1samp(values, 0).confidence_interval()
            row |= {name: values.mean(), f"{name}_low": low, f"{name}_high": high}
        low, high = _gain_interval(predictions, variant, first["variant"].iloc[0], subset)
        result.append({**row, "gain_test_low": low, "gain_test_high": high})
    return pd.DataFrame(result)


def _gain_interval(
    predictions: pd.DataFrame, variant: str, first: str, subset: str
) -> tuple[float, float]:
    """Bootstrap interval of a variant's mean gain over the first variant."""
    rows = predictions if subset == ALL else predictions[predictions["subset"] == subset]
    scores = rows.pivot(index="name", columns=["variant", "seed"], values="score")
    photographs = rows.drop_duplicates("name").set_index("name").loc[scores.index]
    _, low, high = metrics.bootstrap_difference(
        scores[variant].to_numpy().T,
        scores[first].to_numpy().T,
        photographs["mos"],
        groups=photographs.get("group"),
    )
    return low, high


def thinned(
    dataset: QualityDataset, share: float, seed: int, tested: int | None = None, test_seed: int = 0
) -> QualityDataset:
    """A fraction of train and val, drawn by ``seed``, and at most ``tested`` test images.

    Larger fractions include smaller ones. At least three images of each split remain.
    """
    table = dataset.manifest.table
    indices = []
    for name, part in table.groupby("split", sort=False):
        if name == "test":
            count, draw = len(part) if tested is None else tested, test_seed
        else:
            count, draw = max(3, round(share * len(part))), seed
        indices.append(part.sample(frac=1, random_state=draw).index[:count])
    chosen = np.sort(np.concatenate(indices))
    manifest = dataclasses.replace(
        dataset.manifest,
        table=table.loc[chosen].reset_index(drop=True),
        notes=(*dataset.manifest.notes, _share_note(share, f"seed {seed}")),
    )
    return QualityDataset(manifest, dataset.split, dataset.image_size)


def _share_note(share: float, by: str) -> str:
    return f"{share:.0%} of the train and val photographs, drawn by {by}"
