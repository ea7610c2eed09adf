"""The fit loop for any model and loss; a resumed run ends as an uninterrupted one."""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from ..core import distributed
from ..core.device import Compute
from ..core.errors import LabError
from ..core.progress import interactive
from ..core.runs import Run
from ..models.trainable import Trainable
from ..nn.compiling import compiled
from .acceleration import accelerator_for, agree, share_statistics
from .batches import Share
from .checkpoints import load_checkpoint, load_weights, save_checkpoint, save_weights
from .nonfinite import NotFiniteError, gradient_problem, not_finite, stopped

if TYPE_CHECKING:
    from accelerate import Accelerator
    from tqdm import tqdm

# In place of a goal that is NaN, as a constant prediction's SRCC is: worse than any, but better
# than no weights at all.
_UNDEFINED = -2.0


class Task:
    """What to train: subclasses define the network, its data, loss and metrics.

    ``goal`` names the metric of ``validate`` that selects the best weights, higher is better.
    ``fitted_start``: the network is useful after ``start``, and validated as step 0.
    """

    network: Trainable
    goal: str
    fitted_start: bool = False

    def start(self) -> None:
        """Called before the first step of a new run."""

    def parameter_groups(self) -> list[dict]:
        """``params`` that are trained, and ``scale``: their rate in multiples of the schedule's.

        A group may have a ``weight_decay`` too: Adam's, a multiple of the weights that is added to
        their gradients; 0 where it has none.
        """
        trained = [p for p in self.network.parameters() if p.requires_grad]
        return [{"params": trained, "scale": 1.0}]

    def batches(self, epoch: int, start: int) -> Iterable[list]:
        """Steps of an epoch from the ``start``-th on, each a list of batches.

        With several processes each gets its ``batches.Share`` of a step.
        """
        raise NotImplementedError

    def loss(self, model: nn.Module, batch: Sequence) -> tuple[torch.Tensor, int]:
        """Mean loss over a batch and the batch's size."""
        raise NotImplementedError

    def names(self, batch: Sequence) -> Sequence[str]:  # noqa: ARG002 - for subclasses
        """Names of a batch's images for messages, where known."""
        return ()

    def stepped(self) -> None:
        """Called after every optimiser step."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Metrics, the goal among them."""
        raise NotImplementedError

    def kept(self) -> dict[str, torch.Tensor]:
        """The validated weights, saved at the best step."""
        return self.network.run_state()


@dataclass(frozen=True)
class Schedule:
    """Length and learning rates of a training; see ``TrainConfig`` for the fields."""

    steps_per_epoch: int
    epochs: int
    learning_rate: float
    lr_milestones: tuple[int, ...] = ()
    lr_decay: float = 0.2
    max_steps: int | None = None
    validate_every: int = 250
    patience: int | None = None
    clip_norm: float | None = None
    warmup_steps: int = 0
    cosine: bool = False

    @property
    def total_steps(self) -> int:
        """Optimiser steps in all."""
        steps = self.epochs * self.steps_per_epoch
        return min(steps, self.max_steps) if self.max_steps else steps

    def due(self, step: int) -> bool:
        """Whether to validate after ``step`` steps."""
        return step == self.total_steps or step % self.validate_every == 0

    def rate(self, step: int) -> float:
        """Learning rate of the step after ``step``; with ``cosine`` it falls to 0 at the end."""
        epoch = step // self.steps_per_epoch
        decay = self.lr_decay ** sum(epoch >= m for m in self.lr_milestones)
        if self.cosine:
            decay *= 0.5 + 0.5 * math.cos(math.pi * step / self.total_steps)
        return self.learning_rate * decay * min(1.0, (step + 1) / (self.warmup_steps + 1))


class Progress(NamedTuple):
    """State of a run that a checkpoint holds beside the tensors.

    ``losses``: those of the steps since the last validation.
    """

    step: int = 0
    best_step: int = 0
    best: float = -math.inf
    seconds: float = 0.0
    losses: tuple[float, ...] = ()
    metrics: dict[str, float] | None = None

    def record(self) -> dict:
        """As JSON; no best yet is null."""
        best = self.best if math.isfinite(self.best) else None
        return {**self._asdict(), "best": best, "metrics": None}

    @classmethod
    def read(cls, record: dict) -> "Progress":
        """From ``record``."""
        best = -math.inf if record["best"] is None else record["best"]
        fields = {name: record[name] for name in cls._fields}
        return cls(**{**fields, "best": best, "losses": tuple(record["losses"])})


def fit_and_save_last(run: Run, task: Task, schedule: Schedule, compute: Compute) -> dict:
    """``fit``, then write the last weights to ``checkpoints/last.safetensors``.

    Returns:
        steps, best_step and seconds, for the run's summary.
    """
    progress = fit(run, task, schedule, compute)
    if distributed.is_main():
        save_weights(run.checkpoints / "last.safetensors", task.kept())
    return {
        "steps": progress.step,
        "best_step": progress.best_step,
        "seconds": round(progress.seconds, 1),
    }


def fit(run: Run, task: Task, schedule: Schedule, compute: Compute) -> Progress:
    """Train to the end of the schedule or of patience.

    After every ``validate_every`` steps, and before the first where the start is a fitted one:
    metrics to ``metrics.jsonl`` and the best weights by the task's goal to
    ``checkpoints/best.safetensors``; after steps the whole state to a checkpoint too. Ctrl-C ends
    the step, writes a checkpoint and raises KeyboardInterrupt.

    Raises:
        LabError: a loss, its gradient or a weight is not finite: step, photographs and the last
            good checkpoint are named; or the best weights of a resumed run are damaged.
    """
    accelerator = accelerator_for(compute)
    network = task.network.to(compute.device)
    groups = task.parameter_groups()
    optimizer = torch.optim.Adam(
        groups, lr=schedule.learning_rate, fused=compute.device.type != "mps"
    )
    progress = _resume(run, network, optimizer, accelerator.scaler)
    if progress.step == 0:
        task.start()
    model, optimizer = accelerator.prepare(network, optimizer)
    if progress.step == 0 and task.fitted_start:
        progress = _validate(run, task, model, progress)
        _log(run, task.goal, progress, schedule.rate(0))
    bar = _bar(schedule.total_steps, progress.step)
    try:
        with _interrupts() as interrupted, compiled(network, compute.compile):
            while not _over(progress, schedule):
                epoch, start = divmod(progress.step, schedule.steps_per_epoch)
                for batches in task.batches(epoch, start):
                    began = time.monotonic()
                    rate = schedule.rate(progress.step)
                    try:
                        loss = _step(accelerator, model, optimizer, task, batches, rate, schedule)
                    except NotFiniteError as error:
                        raise LabError(stopped(run, progress.step + 1, *error.args)) from None
                    loss, stop = agree(accelerator, loss, interrupted())
                    progress = progress._replace(
                        step=progress.step + 1, losses=(*progress.losses, loss)
                    )
                    due = schedule.due(progress.step)
                    if (due or stop) and (bad := not_finite(network)):
                        raise LabError(stopped(run, progress.step, f"{bad} is not finite"))
                    if due:
                        progress = _validate(run, task, model, progress)
                    spent = time.monotonic() - began
                    progress = progress._replace(seconds=progress.seconds + spent)
                    if due:
                        _log(run, task.goal, progress, rate)
                        progress = progress._replace(losses=())
                    if due or stop:
                        _save(run, network, optimizer, accelerator.scaler, progress)
                    bar.update()
                    bar.set_postfix(loss=f"{loss:.4f}", best=f"{progress.best:.4f}")
                    if stop:
                        raise KeyboardInterrupt
                    if _over(progress, schedule):
                        break
    finally:
        bar.close()
        # Takes accelerate's mixed-precision wrapper off again.
        accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    distributed.wait()  # what the main process has written is there for all
    return progress


def _step(
    accelerator: "Accelerator",
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    task: Task,
    batches: list,
    rate: float,
    schedule: Schedule,
) -> float:
    """Mean loss of an optimiser step.

    Raises NotFiniteError before the weights are touched.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    model.train()
    optimizer.zero_grad()
    share = batches if isinstance(batches, Share) else Share(batches)
    value = 0.0
    wrong = None
    for place, batch in enumerate(share, 1):
        last = place == len(share)
        with contextlib.nullcontext() if last else accelerator.no_sync(model):
            loss, size = task.loss(model, batch)
            # Weighted by size, so that accumulated batches equal one large batch.
            weight = share.counts * size / share.total
            # Over processes gradients are not added up but averaged.
            accelerator.backward(loss * (weight * accelerator.num_processes))
        value += loss.item() * weight
        if wrong is None and not math.isfinite(value):
            wrong = NotFiniteError(f"the loss became {value}", task.names(batch))
    # After the backward pass, as other processes wait for this one's gradients.
    if wrong:
        raise wrong
    if schedule.clip_norm:
        accelerator.clip_grad_norm_(model.parameters(), schedule.clip_norm)
    if problem := gradient_problem(model, accelerator.scaler):
        raise NotFiniteError(problem, [name for batch in batches for name in task.names(batch)])
    # Where float16 gradients overflow, the scaler skips the step and lowers its scale.
    optimizer.step()
    share_statistics(accelerator, task.network)
    task.stepped()
    return value


def _validate(run: Run, task: Task, model: nn.Module, progress: Progress) -> Progress:
    model.eval()
    with torch.no_grad():
        metrics = task.validate(model)
    score = metrics[task.goal] if math.isfinite(metrics[task.goal]) else _UNDEFINED
    if score > progress.best:
        progress = progress._replace(best=score, best_step=progress.step)
        if distributed.is_main():
            save_weights(run.checkpoints / "best.safetensors", task.kept())
    return progress._replace(metrics=metrics)


def _log(run: Run, goal: str, progress: Progress, rate: float) -> None:
    losses = progress.losses
    assert progress.metrics is not None
    mean = sum(losses) / len(losses) if losses else None
    metrics = {k: v if math.isfinite(v) else None for k, v in progress.metrics.items()}
    run.log(
        {
            "step": progress.step,
            "loss": mean,
            **{f"val_{name}": value for name, value in metrics.items()},
            "learning_rate": rate,
            "seconds": round(progress.seconds, 3),
            "losses": losses,
        }
    )
    if not interactive():
        loss = f"loss {mean:.4f}, " if losses else ""
        print(
            f"step {progress.step}: {loss}{goal} {_format(progress.metrics[goal])}, best "
            f"{_format(progress.best)} at step {progress.best_step}, {progress.seconds:.0f} s",
            flush=True,
        )


def _format(value: float) -> str:
    defined = math.isfinite(value) and value != _UNDEFINED
    return f"{value:.4f}" if defined else "undefined (no variation)"


def _resume(
    run: Run,
    network: Trainable,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None,
) -> Progress:
    with distributed.main_first():  # which drops damaged ones
        found = load_checkpoint(run.checkpoints, optimizer)
    if found is None:
        run.rewind(-1)
        return Progress()
    weights, state = found
    network.load_run_state(weights)
    if scaler is not None and "scaler" in state:
        scaler.load_state_dict(state["scaler"])
    progress = Progress.read(state)
    if math.isfinite(progress.best):
        # Damage is reported now, not after the rest of the training.
        load_weights(run.checkpoints / "best.safetensors")
    run.rewind(progress.step)
    print(f"resumed {run.name} at step {progress.step}")
    return progress


def _save(
    run: Run,
    network: Trainable,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None,
    progress: Progress,
) -> None:
    if not distributed.is_main():
        return
    state = progress.record()
    if scaler is not None:
        state["scaler"] = scaler.state_dict()
    save_checkpoint(run.checkpoints, progress.step, network.run_state(), optimizer, state)


def _over(progress: Progress, schedule: Schedule) -> bool:
    if progress.step >= schedule.total_steps:
        return True
    waited = (progress.step - progress.best_step) // schedule.validate_every
    return schedule.patience is not None and waited >= schedule.patience


def _bar(total: int, done: int) -> "tqdm":
    from tqdm.auto import tqdm

    return tqdm(desc="training", total=total, initial=done, disable=not interactive(), unit="step")


@contextlib.contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Within the block Ctrl-C does not interrupt; the yielded function says if it was pressed."""
    seen = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield seen.is_set
        return
    before = signal.signal(signal.SIGINT, lambda *_: seen.set())
    try:
        yield seen.is_set
    finally:
        signal.signal(signal.SIGINT, before)
