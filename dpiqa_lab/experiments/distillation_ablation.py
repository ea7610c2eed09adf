"""Distillation ablation: the distillation terms separately and together."""

import numpy as np
import pandas as pd

from .. import metrics
from ..core.config import resolves
from ..core.errors import LabError
from ..core.experiment import experiment
from ..core.identity import Inputs
from ..core.runs import Run, find_run
from ..datasets.dataset import QualityDataset
from ..training.student_run import student_inputs, train_student
from ..training.teacher_outputs import teacher_outputs
from ..training.teacher_run import teacher_inputs, train_teacher
from .distillation_ablation_config import DistillationConfig
from .model_cost import model_costs

TEACHER = "teacher"
MEASURED_ON = 8  # images for cost measurements


@resolves
def run_distillation(config: DistillationConfig) -> Run:
    """Train a student for each variant, and compare them with each other and with the teacher.

    Each student is a separate run, ``<run_name>-<variant>``, as is the teacher if none is given; an
    interrupted ablation resumes. Tables of the run: ``ablation.csv`` (see
    ``compare_variants``), ``agreement.csv`` (a row per variant and test image: variant, name,
    mos, student and teacher) and ``costs.csv`` (see ``model_costs``: the teacher and the student
    with the best SRCC on val, which ``summary.json`` names as ``student``).

    Raises:
        LabError: bad input, before any long work.
    """
    dataset = config.load_dataset()
    compute = config.compute()

    def work(run: Run) -> dict:
        teacher = (
            find_run(config.teacher)
            if config.teacher
            else train_teacher(config.own_teacher(run.name), dataset, rename=True)
        )
        students = {}
        for variant, asked in config.students(str(teacher.path), run.name).items():
            print(f"variant: {variant}")
            students[variant] = train_student(asked, dataset, rename=True)
        test = dataset.in_split("test")
        targets = teacher_outputs(teacher, test.table, compute, config.workers).score.numpy()
        agreement = _agreement(students, test, targets)
        run.write_table("agreement", agreement)
        run.write_table("ablation", compare_variants(agreement, test.table.get("group")))
        metrics_of = {
            variant: student.summary()["metrics"] for variant, student in students.items()
        }
        chosen = max(metrics_of, key=lambda variant: _number(metrics_of[variant]["val"]["srcc"]))
        pair = {TEACHER: teacher, f"student: {chosen}": students[chosen]}
        some = test.sample(MEASURED_ON, config.seed).table["path"]
        run.write_table("costs", model_costs(pair, some, config.device, compute.precision))
        notes = list(dict.fromkeys(n for s in students.values() for n in s.summary()["notes"]))
        return {
            "metrics": metrics_of[chosen],
            "student": students[chosen].name,
            "chosen": chosen,
            "teacher": teacher.name,
            "teacher_path": str(teacher.path),
            "runs": {variant: student.name for variant, student in students.items()},
            "dataset": repr(dataset),
            "notes": notes,
        }

    return experiment(config, distillation_inputs(config, dataset), work)


def distillation_inputs(
    config: DistillationConfig, dataset: QualityDataset | None = None
) -> Inputs:
    """Inputs of a distillation ablation; ``dataset`` overrides the configured one."""
    dataset = dataset or config.load_dataset()
    inputs = student_inputs(config, dataset)
    if config.teacher:
        return inputs
    teacher = teacher_inputs(config.own_teacher(), dataset)
    return inputs._replace(models={**inputs.models, **teacher.models})


def compare_variants(agreement: pd.DataFrame, groups: pd.Series | None = None) -> pd.DataFrame:
    """Each variant's agreement with MOS and with the teacher, with 95% bootstrap intervals.

    Args:
        agreement: variant, name, mos, student and teacher, with the same images in the same
            order for every variant.
        groups: of these images, resampled whole.

    Returns:
        A row for the teacher and for each variant: variant, n, srcc, srcc_low, srcc_high, plcc,
        rmse; ``gain``, ``gain_low``, ``gain_high``: SRCC - that of the first variant, on the
        same resamples; ``with_teacher`` and its interval: SRCC between the two models' scores.

    Raises:
        LabError: the variants have different images.
    """
    variants = {
        variant: rows.reset_index(drop=True)
        for variant, rows in agreement.groupby("variant", sort=False)
    }
    first = next(iter(variants.values()))
    if any(not rows["name"].equals(first["name"]) for rows in variants.values()):
        raise LabError(
            "the variants were tested on different photographs: they cannot be compared."
        )
    mos, teacher = first["mos"], first["teacher"]
    scores = {TEACHER: teacher, **{variant: rows["student"] for variant, rows in variants.items()}}
    result = []
    for variant, score in scores.items():
        low, high = metrics.bootstrap(score, mos, ("srcc",), groups=groups)["srcc"]
        gain = metrics.bootstrap_difference(score, first["student"], mos, groups=groups)
        row = {"variant": variant, "n": len(mos), "srcc": metrics.srcc(score, mos)}
        row |= {"srcc_low": low, "srcc_high": high, "plcc": metrics.plcc(score, mos)}
        row |= {"rmse": metrics.rmse(score, mos)}
        row |= dict(zip(("gain", "gain_low", "gain_high"), gain, strict=True))
        if variant != TEACHER:
            low, high = metrics.bootstrap(score, teacher, ("srcc",), groups=groups)["srcc"]
            row |= {"with_teacher": metrics.srcc(score, teacher)}
            row |= {"with_teacher_low": low, "with_teacher_high": high}
        result.append(row)
    return pd.DataFrame(result)


def most_different(rows: pd.DataFrame, n: int = 8) -> pd.DataFrame:
    """The ``n`` images with the largest rank difference between the models, largest first.

    ``rows``: student and teacher scores of one variant. Adds student_rank and teacher_rank, 1 for
    the lowest score.
    """
    ranks = {f"{who}_rank": rows[who].rank(method="average") for who in ("student", "teacher")}
    ranked = rows.assign(**ranks)
    gap = (ranked["student_rank"] - ranked["teacher_rank"]).abs()
    return ranked.loc[gap.sort_values(ascending=False, kind="stable").index[:n]]


def _agreement(
    students: dict[str, Run], test: QualityDataset, of_teacher: np.ndarray
) -> pd.DataFrame:
    """Test scores of the students' runs, with those of the teacher, ``of_teacher`` (n,)."""
    known = test.table[["name", "mos"]].assign(teacher=of_teacher)
    tables = []
    for variant, student in students.items():
        scores = student.predictions().query("split == 'test'")[["name", "score"]]
        table = known.merge(scores.rename(columns={"score": "student"}), on="name")
        tables.append(table.assign(variant=variant))
    table = pd.concat(tables, ignore_index=True)
    return table[["variant", "name", "mos", "student", "teacher"]]


def _number(value: float | None) -> float:
    """The value; undefined (constant scores) ranks last."""
    return -2.0 if value is None else value
