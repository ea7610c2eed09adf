"""Losses, gradients and weights that are not finite: detected at their step, with names."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from ..core.errors import listing
from ..core.runs import Run
from ..models.trainable import Trainable
from .checkpoints import last_step


class NotFiniteError(ArithmeticError):
    """What is not finite, and the names of the images that caused it."""


def gradient_problem(model: nn.Module, scaler: torch.amp.GradScaler | None) -> str | None:
    """Why ``model``'s gradients forbid an optimiser step, or ``None``.

    ``scaler``: that of float16, which handles overflows as long as a smaller scale helps; ``None``
    in other precisions.
    """
    if scaler is not None:
        return "gradients overflow float16 at any scale" if scaler.get_scale() < 1 else None
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    return None if math.isfinite(norm) else "the loss's gradient is not finite"


def not_finite(network: Trainable) -> str | None:
    """The name of a tensor of the network's state that holds NaN or infinity, if any does."""
    state = {k: v for k, v in network.run_state().items() if v.is_floating_point()}
    good = torch.stack([value.isfinite().all() for value in state.values()])
    return None if good.all() else list(state)[int((~good).nonzero()[0])]


def stopped(run: Run, step: int, what: str, names: Sequence[str] = ()) -> str:
    """Why a training stopped at ``step``, its last checkpoint, and what to do."""
    good = last_step(run.checkpoints)
    kept = "No checkpoint was written yet." if good is None else f"Checkpoint {good} is kept."
    shown = f" It was shown:\n{listing(names)}\n" if len(names) else " "
    return (
        f"{what} at step {step} of {run.name}.{shown}{kept} Train under another run_name with a "
        "lower learning_rate, with clip_norm, or with precision='float32'; if it is always the "
        "same photographs, look at these."
    )
