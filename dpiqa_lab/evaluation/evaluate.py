"""Evaluation of models on datasets: its tables and its run."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from .. import metrics
from ..core.config import resolves
from ..core.errors import LabError
from ..core.experiment import experiment
from ..core.files import json_hash
from ..core.identity import Inputs
from ..core.runs import Run, find_run
from ..datasets.dataset import QualityDataset
from . import error_analysis
from .agreement import agreement, calibration, cross_table, differences
from .dataset_scores import scores_of
from .evaluate_config import EvaluateConfig
from .perturbations import perturbed
from .published_results import compare_with_published
from .resolve_scorer import QUICK, quick_teacher, resolve_scorers
from .scorers import Scorer

TABLES = (
    "scores", "agreement", "differences", "cross", "published", "calibration", "errors",
    "robustness", "disagreements", "photographs",
)  # fmt: skip
_CHANGES = ["dataset", "model", "name", "change", "score"]
_SCORES = ["dataset", "model", "name", "mos", "score", "subset", "group", "subset_mean"]
_TEXT = (
    "dataset", "tested_on", "model", "name", "path", "subset", "group", "a", "b", "logistic",
    "trained_on", "scale", "notes", "error", "method", "protocol", "source", "highest", "lowest",
)  # fmt: skip


def evaluate(
    models: Mapping[str, object] | Sequence,
    datasets: Mapping[str, QualityDataset],
    split: str = "test",
    max_images: int | None = None,
    robustness: int = 50,
    resamples: int = 1000,
    seed: int = 0,
    device: str = "auto",
) -> dict[str, pd.DataFrame]:
    """Every table of an evaluation, by name: agreement, differences, errors and others.

    A model that fails on a dataset has a row in ``agreement`` with the ``error``, and the others
    continue. Scores are cached.

    Args:
        models: a mapping by name, or a sequence; each a name or folder of a run,
            "predictions:<run>" (its stored scores), a name of ``BASELINES``, "pyiqa:<metric>",
            a table with the columns name and score, a model with ``score``, or a function from
            paths to scores.
        datasets: with all splits, by label; baselines need an ``image_size``.
        split: that is scored: test, val, train or all.
        max_images: maximum per dataset, drawn by the seed.
        robustness: images whose perturbed copies are scored too; 0: none.

    Raises:
        LabError: a model cannot be opened, before any scoring; no models or datasets.
    """
    scorers = _opened(models, datasets, device)
    return _tables(scorers, datasets, split, max_images, robustness, resamples, seed)


@resolves
def run_evaluation(
    config: EvaluateConfig,
    models: Mapping[str, object] | Sequence | None = None,
    datasets: Mapping[str, QualityDataset] | None = None,
) -> Run:
    """``evaluate`` as a run with a CSV file per table; an existing run of that name is reused.

    It is reused only if models, images and labels are unchanged; a function without a
    ``cache_key`` (see ``FunctionScorer``) is called each time, in a new run.

    Args:
        config: resolved.
        models, datasets: override the configured ones.

    Raises:
        LabError: see ``evaluate``.
    """
    datasets = datasets or config.load_datasets()
    scorers = _opened(models or config.models, datasets, config.device)

    def work(run: Run) -> dict:
        tables = _tables(
            scorers,
            datasets,
            config.split,
            config.max_images,
            config.robustness,
            config.resamples,
            config.seed,
        )
        for name, table in tables.items():
            run.write_table(name, table)
        failed = tables["agreement"].query("error != ''")
        return {
            "datasets": {label: repr(dataset) for label, dataset in datasets.items()},
            "models": [scorer.name for scorer in scorers],
            "failed": [f"{row.model} on {row.dataset}: {row.error}" for row in failed.itertuples()],
            "notes": [f"{label}: {n}" for label, d in datasets.items() for n in d.manifest.notes],
        }

    return experiment(config, _inputs(scorers, datasets), work)


def evaluation_inputs(config: EvaluateConfig) -> Inputs:
    """Inputs of an evaluation."""
    datasets = config.load_datasets()
    return _inputs(_opened(config.models, datasets, config.device), datasets)


def _inputs(scorers: Sequence[Scorer], datasets: Mapping[str, QualityDataset]) -> Inputs:
    data = [dataset.content().assign(dataset=label) for label, dataset in datasets.items()]
    known = {f"model {scorer.name}": _score_keys(scorer, datasets) for scorer in scorers}
    notes = [line for d in datasets.values() for line in (repr(d), *d.manifest.notes)]
    return Inputs(pd.concat(data, ignore_index=True), known, notes)


def cross_dataset(
    runs: Sequence[str | Path],
    datasets: Mapping[str, QualityDataset],
    metric: str = "srcc",
    resamples: int = 1000,
) -> pd.DataFrame:
    """Trained on (rows) by tested on (columns): ``metric`` of each run on each test part.

    The rows are named by run and training set. ``evaluate`` has the same in its table ``cross``,
    with intervals and with what to keep in mind about the scores' scales.
    """
    table = evaluate(runs, datasets, robustness=0, resamples=resamples)["cross"]
    rows = table["model"] + " (trained on " + table["trained_on"] + ")"
    return table.assign(run=rows).pivot(index="run", columns="tested_on", values=metric)


def evaluation_tables(run: Run | str | Path) -> dict[str, pd.DataFrame]:
    """The tables of an evaluation's run, as ``evaluate`` gave them.

    Raises LabError where the run is none, or not completed.
    """
    run = run if isinstance(run, Run) else find_run(run)
    missing = [name for name in TABLES if not (run.path / f"{name}.csv").is_file()]
    if missing:
        raise LabError(
            f"run {run.name} has no table {', '.join(missing)}: it is unfinished, or no evaluation."
        )
    return {name: _read(run.path / f"{name}.csv") for name in TABLES}


def _opened(
    models: Mapping[str, object] | Sequence, datasets: Mapping[str, QualityDataset], device: str
) -> list[Scorer]:
    if not len(models) or not len(datasets):
        raise LabError("nothing to score: give at least one model and one dataset.")
    named = models.items() if isinstance(models, Mapping) else ((None, m) for m in models)
    first = next(iter(datasets.values()))
    pairs = [
        (name or QUICK, quick_teacher(first, device))
        if isinstance(model, str) and model == QUICK
        else (name, model)
        for name, model in named
    ]
    return resolve_scorers(pairs, device)


def _score_keys(scorer: Scorer, datasets: Mapping[str, QualityDataset]) -> dict[str, str]:
    """Keys of a model's scores by dataset; unique for a model without a key."""
    keys = {label: scorer.key(dataset) for label, dataset in datasets.items()}
    return {
        label: f"asked at {time.time_ns()}, as it has no key" if key is None else json_hash(key)
        for label, key in keys.items()
    }


def _tables(
    scorers: Sequence[Scorer],
    datasets: Mapping[str, QualityDataset],
    split: str,
    max_images: int | None,
    sampled: int,
    resamples: int,
    seed: int,
) -> dict[str, pd.DataFrame]:
    scores, changes, traits, results = [], [], [], []
    for label, dataset in datasets.items():
        chosen = dataset.in_split(split)
        chosen = chosen if max_images is None else chosen.sample(max_images, seed)
        table = _with_subset_means(chosen.table, dataset.in_split("train").table)
        traits.append(error_analysis.photograph_traits(chosen).assign(dataset=label))
        with perturbed(chosen.sample(sampled, seed)) as copies:
            for scorer in scorers:
                row = {"dataset": label, "model": scorer.name, "trained_on": scorer.trained_on}
                row |= {"scale": scorer.scale(dataset), "error": ""}
                row["notes"] = "; ".join(scorer.notes(dataset, chosen))
                if row["scale"] == "other":
                    print(f"{scorer.name} on {label}: {row['notes']}", flush=True)
                try:
                    found = _predicted(scorer, dataset, table, copies)
                except Exception as error:  # noqa: BLE001 - the other models continue
                    row["error"] = f"{type(error).__name__}: {str(error).strip()[:500]}"
                    print(f"{scorer.name} on {label} failed: {row['error']}", flush=True)
                else:
                    found = found.assign(dataset=label, model=scorer.name)
                    scores.append(found[found["change"] == ""].reindex(columns=_SCORES))
                    changes.append(found.loc[found["change"] != "", _CHANGES])
                finally:
                    scorer.release()
                results.append(row)
    scores, changes = (
        pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
        for tables, columns in ((scores, _SCORES), (changes, _CHANGES))
    )
    scores[["subset", "group"]] = scores[["subset", "group"]].astype(object).fillna("")
    traits = pd.concat(traits, ignore_index=True)
    # Failures have a row without numbers.
    results = pd.DataFrame(results).merge(
        agreement(scores, resamples, seed), how="left", on=["dataset", "model"]
    )
    results = results.fillna({"subset": "all", "n": 0, "contents": 0, "logistic": ""})
    results = results.astype({"n": int, "contents": int})
    first = ["dataset", "model", "subset", "n", "contents"]
    last = ["logistic", "trained_on", "scale", "notes", "error"]
    results = results[[*first, *results.columns.drop([*first, *last]), *last]]
    return {
        "scores": scores,
        "agreement": results,
        "differences": differences(scores, "srcc", resamples, seed),
        "cross": cross_table(results),
        "published": compare_with_published(results, split),
        "calibration": calibration(scores),
        "errors": error_analysis.errors_by_trait(scores, traits),
        "robustness": error_analysis.robustness(scores, changes),
        "disagreements": error_analysis.disagreements(scores),
        "photographs": traits[["dataset", *traits.columns.drop("dataset")]],
    }


def _with_subset_means(table: pd.DataFrame, train: pd.DataFrame) -> pd.DataFrame:
    if "subset" not in table:
        return table
    means = metrics.subset_means(table["subset"], train["mos"], train["subset"])
    return table.assign(subset_mean=means)


def _predicted(
    scorer: Scorer, dataset: QualityDataset, table: pd.DataFrame, copies: pd.DataFrame
) -> pd.DataFrame:
    """Scores of images and their perturbed copies in one call, as a baseline is fitted per call."""
    rows = table.assign(change="")
    if scorer.sees_pixels and len(copies):
        rows = pd.concat([rows, copies], ignore_index=True)
    return rows.assign(score=scores_of(scorer, dataset, rows))


def _read(path: Path) -> pd.DataFrame:
    # An image may be called NA: only empty cells are missing.
    table = pd.read_csv(
        path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(_TEXT, str)
    )
    text = table.columns.intersection(_TEXT)
    table[text] = table[text].astype(object).fillna("")
    return table
