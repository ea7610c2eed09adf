"""What each part of a teacher gives: trainings that lack one part each, from several seeds."""

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

    Each training is a run of its own: interrupted, this goes on where it stopped, and asked for
    more variants or seeds (a run of another name) it trains only those that are new. The run's
    tables: ``trainings.csv`` and ``predictions.csv`` (see ``train_variants``) and
    ``components.csv`` (see ``compare_components``).

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
    """One training a variant and seed, seed by seed, so that all variants are there early.

    Returns:
        A row a variant, seed and subset (``ALL`` first): variant, seed, run, subset, n, srcc,
        srcc_low, srcc_high (95% bootstrap interval of this one training's test part), plcc; steps,
        and best_step, that of the weights tested: 0 where no step ranked val better than the start.
        And a row a variant, seed and test photograph: variant, seed, name, mos, score, split, and
        subset and group where the dataset has them.
    """
    rows, predictions = [], []
    for seed in range(config.seed, config.seed + config.seeds):
        part = thinned(dataset, config.train_fraction, seed, config.max_test_images, config.seed)
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
    """Means over seeds of ``train_variants``' rows, and what each variant has above the first.

    Returns:
        A row a variant and subset: variant, subset, seeds, and means over seeds of srcc, plcc and
        ``gain`` (SRCC less that of the first variant from the same seed); each with ``_low`` and
        ``_high``, the 95% interval of Student's t over seeds: what another draw of the train
        photographs and another initialisation may change, the test photographs being the same. NaN
        for one seed. ``gain_test_low``, ``gain_test_high``: the 95% bootstrap interval of the gain
        over test photographs (or their groups), the trainings being the same.
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
        low, high = _over_photographs(predictions, variant, first["variant"].iloc[0], subset)
        result.append({**row, "gain_test_low": low, "gain_test_high": high})
    return pd.DataFrame(result)


def _over_photographs(
    predictions: pd.DataFrame, variant: str, first: str, subset: str
) -> tuple[float, float]:
    """Ends of the bootstrap interval of a variant's mean gain over the first variant."""
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
    """A share of the train and val photographs, drawn by ``seed``; of test, ``tested`` at most.

    A larger share holds the smaller ones. At least three photographs of each part are kept.
    """
    table = dataset.manifest.table
    kept = []
    for name, part in table.groupby("split", sort=False):
        if name == "test":
            count, draw = len(part) if tested is None else tested, test_seed
        else:
            count, draw = max(3, round(share * len(part))), seed
        kept.append(part.sample(frac=1, random_state=draw).index[:count])
    chosen = np.sort(np.concatenate(kept))
    manifest = dataclasses.replace(
        dataset.manifest,
        table=table.loc[chosen].reset_index(drop=True),
        notes=(*dataset.manifest.notes, _share_note(share, f"seed {seed}")),
    )
    return QualityDataset(manifest, dataset.split, dataset.image_size)


def _share_note(share: float, by: str) -> str:
    return f"{share:.0%} of the train and val photographs, drawn by {by}"
