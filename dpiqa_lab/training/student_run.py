"""``train_student``: from a config, and a teacher where there is one, to a run folder."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from .. import metrics
from ..core import distributed
from ..core.config import resolves
from ..core.device import Compute
from ..core.identity import Inputs, files_input
from ..core.runs import Run, find_run
from ..datasets.dataset import QualityDataset
from ..datasets.image_set import ImageSet, unlabelled_photographs
from ..datasets.pixels import Pixels
from ..datasets.scale import scale_of
from ..models.image_scorer import ModelOutput
from ..models.stage_head import STAGES
from ..models.student import Student
from ..models.trunks import trunk_input
from .batches import StepBatches
from .ema import ModelEma
from .init_from_ridge import init_stage_head_from_ridge
from .losses import correlation_by_group, distillation_loss
from .ranking_copies import ranking_copies, ranking_loss
from .ridge_head_correction import fit_ridge_correction
from .run_fingerprint import run_fingerprint
from .scored_run import ScoreTask, fit_and_record, run_training
from .statistics_targets import statistics_targets
from .student_config import DistillConfig
from .student_dataset import StudentDataset, crop_maps
from .student_model import build_student, set_start
from .teacher_outputs import teacher_outputs


@resolves
def train_student(
    config: DistillConfig, dataset: QualityDataset | None = None, rename: bool | None = None
) -> Run:
    """Train a student, or continue or reuse the run of that name.

    The teacher's scores and maps come first, from the cache where they are known; it is gone
    before the student comes into being.

    Args:
        config: as ``DistillConfig.from_parameters({"dataset": "demo"})`` gives it.
        dataset: in place of the one that ``config`` names (for splits of one's own).
        rename: see ``train_teacher``.

    Returns:
        The run, completed: ``run.summary()``, ``run.history()``, ``run.predictions()``.

    Raises:
        LabError: bad input, before any long work; out of memory, with what to lower.
    """
    dataset = dataset or config.load_dataset()
    inputs, advice = student_inputs(config, dataset), "or take a smaller trunk."
    return run_training(config, dataset, inputs, _train, advice, rename)


def student_inputs(config: DistillConfig, dataset: QualityDataset | None = None) -> Inputs:
    """What goes into a student's training; ``dataset`` in place of the one that is named."""
    models = {}
    if config.teacher is not None:
        models["teacher"] = run_fingerprint(find_run(config.teacher))
    if config.trunk_weights != "none":
        models["trunk_weights"] = trunk_input(config.trunk, config.trunk_weights)
    if config.start_from is not None:
        path = Path(config.start_from).expanduser()
        models["start_from"] = (
            files_input(path)
            if path.suffix == ".safetensors"
            else run_fingerprint(find_run(config.start_from))
        )
    inputs = (dataset or config.load_dataset()).inputs(models)
    if config.unlabelled is None:
        return inputs
    table = unlabelled_photographs(config.unlabelled, config.on_bad_image, set())
    extra = table[["name", "hash"]].rename(columns={"hash": "sha256"}).assign(dataset="unlabelled")
    return inputs._replace(data=pd.concat([inputs.data, extra], ignore_index=True))


class StudentTask(ScoreTask):
    """The fit loop's task: steps of images with the teacher's outputs for them.

    Args:
        photographs: to train on, those without a mos too. taught: the teacher's outputs for them,
            in that order; ``None`` where there is no teacher.
        statistics: (n, k) of them where they are taught.
    """

    def __init__(
        self,
        student: Student,
        dataset: QualityDataset,
        photographs: ImageSet,
        taught: ModelOutput | None,
        statistics: torch.Tensor | None,
        config: DistillConfig,
        compute: Compute,
    ) -> None:
        super().__init__(student, dataset, config, compute)
        self.student = student
        student.freeze(config.frozen_norms, config.frozen_stages)
        # A ridge regression on what the trunk knows already may be hard to improve on.
        self.fitted_start = student.head == STAGES
        self.groups = photographs.groups()
        if config.ema:
            self.network = ModelEma(student, config.ema)
        self.taught = taught
        self.statistics = statistics
        self.shown = StudentDataset(photographs, config.flip, config.crop, config.seed)
        self.steps = StepBatches(
            self.shown,
            config.batch_size,
            config.accumulation_steps,
            config.seed,
            config.workers,
        )

    def start(self) -> None:
        """See ``loop.Task``."""
        set_start(self.student, self.config.trunk_weights, self.config.start_from)
        fit_start = getattr(self.student.trunk, "fit_start", None)
        if fit_start and self.config.trunk_weights == "none" and self.config.start_from is None:
            generator = torch.Generator().manual_seed(self.config.seed)
            few = torch.randperm(len(self.shown), generator=generator)[:64]
            fit_start(self.images(torch.stack([self.shown[int(i)][0] for i in few])))
        if self.student.head == STAGES and self.config.start_from is None:
            self._start_at_ridge()
        if self.config.ema:
            self.network.restart()

    def parameter_groups(self) -> list[dict]:
        """See ``loop.Task``: the head's rate may be another."""
        head = [p for p in self.student.regressor.parameters() if p.requires_grad]
        others = [
            p for name, p in self.student.named_parameters()
            if p.requires_grad and not name.startswith("regressor.")
        ]  # fmt: skip
        scale = self.config.head_learning_rate / (self.config.learning_rate or 1.0)
        return [{"params": others, "scale": 1.0}, {"params": head, "scale": scale}]

    def names(self, batch: Sequence) -> list[str]:
        """See ``loop.Task``."""
        return list(self.shown.table["name"].iloc[batch[2].tolist()])

    def stepped(self) -> None:
        """See ``loop.Task``."""
        if self.config.ema:
            self.network.update()

    def scorer(self) -> Student:
        """See ``scored_run.ScoreTask``."""
        return self.network.average if self.config.ema else self.student

    def batches(self, epoch: int, start: int) -> Iterator[list]:
        """See ``loop.Task``."""
        self.shown.epoch = epoch
        return self.steps.epoch(epoch, start)

    def loss(self, model: nn.Module, batch: Sequence) -> tuple[torch.Tensor, int]:
        """See ``loop.Task``."""
        pixels, mos, positions, places = batch
        config, device, n = self.config, self.compute.device, len(pixels)
        seed, copies = self._seed(int(positions[0])), None
        if config.ranking_weight:
            copies = ranking_copies(pixels[: config.ranking_copies], seed)
            pixels = torch.cat([pixels, copies.pixels])
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            # Blocks that are skipped at random are the same ones where a run is resumed.
            torch.manual_seed(seed)
            output = model(self.images(pixels))
        score = output.score
        output = ModelOutput(*(part if part is None else part[:n] for part in output))
        taught = None
        if self.taught is not None:
            taught = ModelOutput(*(p[positions].to(device).float() for p in self.taught[:2]))
            if config.flip or config.crop:
                taught = taught._replace(
                    feature_map=crop_maps(taught.feature_map, places.to(device))
                )
        weights = config.score_weight, config.teacher_score_weight, config.map_weight
        known = ()
        if self.statistics is not None:
            known = self.statistics[positions].to(device), config.statistics_weight
        mos = mos.to(device)
        loss = distillation_loss(output, mos, taught, *weights, *known)
        if config.correlation_weight:
            groups = self.groups[positions].to(device)
            loss = loss + config.correlation_weight * correlation_by_group(score[:n], mos, groups)
        if copies is not None:
            clean = score[: copies.gaps.shape[1]]
            order = ranking_loss(clean, score[n:], copies.gaps.to(device))
            loss = loss + config.ranking_weight * order
        return loss, n

    def finish(self) -> dict:
        """See ``scored_run.ScoreTask``: the head is corrected, see ``correction``."""
        if not self.config.correction:
            return {}
        part = self.config.select_on
        head = self.scorer().regressor
        head.correct()
        target = self._taught_score()
        known = np.flatnonzero(~np.isnan(target))
        features, score = self._features(self.scorer(), Subset(self.shown.whole, known), "train")
        chosen = self._features(self.scorer(), Pixels(self.parts[part]), part)
        mos = self.parts[part].table["mos"].to_numpy(float)
        found = fit_ridge_correction(head, features, target[known] - score, *chosen, mos)
        before, after = map(metrics.format_metric, found.values())
        print(f"correction by ridge: {part} srcc {before} to {after}")
        return {"correction": found}

    def _taught_score(self) -> np.ndarray:
        """(n,): the mean of MOS and the teacher's score, by the weights of their errors.

        The teacher's alone where no MOS is known; NaN where its scores are not taught either.
        """
        mos, config = self.shown.table["mos"].to_numpy(float), self.config
        if not config.teacher_score_weight:
            return mos
        assert self.taught is not None
        teacher = self.taught.score.double().numpy()
        weights = config.score_weight, config.teacher_score_weight
        return np.where(np.isnan(mos), teacher, np.average([mos, teacher], axis=0, weights=weights))

    def _start_at_ridge(self) -> None:
        """Let the head start as the ridge regression of MOS on the trunk's features."""
        part, mos = self.config.select_on, self.shown.table["mos"].to_numpy(float)
        known = np.flatnonzero(~np.isnan(mos))
        features, _ = self._features(self.student, Subset(self.shown.whole, known), "train")
        chosen, _ = self._features(self.student, Pixels(self.parts[part]), part)
        chosen_mos = self.parts[part].table["mos"].to_numpy(float)
        init_stage_head_from_ridge(self.student.regressor, features, mos[known], chosen, chosen_mos)

    def _features(
        self, scorer: Student, photographs: Dataset, part: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """What the head's ``norm`` gives of whole photographs (n, k), and their scores (n,)."""
        norm = scorer.regressor.norm
        seen = [torch.zeros(0, norm.num_channels)]
        handle = norm.register_forward_hook(
            lambda _layer, _inputs, output: seen.append(output.cpu())
        )
        try:
            score = self.scores(scorer, photographs, part)
        finally:
            handle.remove()
        features = distributed.all_gather_rows(torch.cat(seen), len(photographs))
        return features.double().numpy(), score.double().numpy()

    def _seed(self, first: int) -> int:
        """Of a batch, by the epoch and its first photograph."""
        words = np.random.SeedSequence([self.config.seed, self.shown.epoch, first])
        return int(words.generate_state(1)[0])


def _train(run: Run, config: DistillConfig, dataset: QualityDataset, compute: Compute) -> dict:
    dataset = QualityDataset(dataset.manifest, image_size=config.image_size)
    if run.state == "new":
        # Weights that do not fit are refused before the teacher is asked.
        set_start(build_student(run.config), config.trunk_weights, config.start_from)
    photographs, notes = _photographs(config, dataset)
    taught = None
    if config.teacher is not None:
        teacher = find_run(config.teacher)
        taught = teacher_outputs(teacher, photographs.table, compute, config.workers)
        notes += [*_shared_photographs(teacher, config, dataset), *_other_scale(teacher, config)]
    statistics = statistics_targets(photographs) if config.statistics_weight else None
    student = build_student(run.config)
    counts = student.parameter_counts()
    print(f"student {config.trunk}: {sum(counts.values()):,} parameters")
    task = StudentTask(student, dataset, photographs, taught, statistics, config, compute)
    record = {"trunk": config.trunk, "parameters": counts, "teacher": config.teacher}
    return fit_and_record(run, task, dataset, notes, **record, photographs=len(photographs))


def _photographs(config: DistillConfig, dataset: QualityDataset) -> tuple[ImageSet, list[str]]:
    """What is trained on, and notes on it."""
    columns = ["name", "path", "hash", "mos"]
    train = dataset.in_split("train").table
    columns += [name for name in ("subset",) if name in train]
    table, notes = train[columns], []
    if config.unlabelled is not None:
        # None of the dataset's own: the teacher's word on test photographs would flatter.
        known = set(dataset.manifest.table["hash"])
        extra = unlabelled_photographs(config.unlabelled, config.on_bad_image, known)
        notes.append(f"{len(extra)} photographs without a score joined; the teacher labels them")
        table = pd.concat([table, extra], ignore_index=True)
    return ImageSet(table, config.image_size), notes


def _other_scale(teacher: Run, config: DistillConfig) -> list[str]:
    """A note where the teacher's scores, which are taught, mean something else than the MOS."""
    theirs, ours = scale_of(teacher.config), scale_of(config.identity())
    if not config.teacher_score_weight or theirs is None or ours is None:
        return []
    if theirs.of == ours.of and theirs.agrees(ours):
        return []
    there, here = (f"{scale.of}, {scale}" for scale in (theirs, ours))
    note = (
        f"the TEACHER'S SCORES are on the scale of {there}; MOS on that of {here}; both are taught"
    )
    print(note)
    return [note]


def _shared_photographs(teacher: Run, config: DistillConfig, dataset: QualityDataset) -> list[str]:
    """A note where the teacher was trained on photographs that the student is tested on."""
    splits = teacher.splits()
    if splits is None or teacher.config.get("dataset") != config.dataset:
        return []
    trained = set(splits.index[splits == "train"])
    shared = trained & set(dataset.in_split("test").table["name"])
    if not shared:
        return []
    return [f"the TEACHER WAS TRAINED on {len(shared)} of the test photographs: splits differ"]
