"""A hash of a model, which identifies its cached results."""

import torch
from torch import nn

from ..core.files import json_hash, tensors_hash


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of a model's kind, of all its weights and buffers, and of its ``settings()``.

    Whatever changes its scores changes it, see ``ImageScorer.settings``.

    Where the model is, how its numbers lie in memory, a wider type that holds the same numbers,
    and training or evaluation mode make no difference.
    """
    weights = {name: _narrow(value.detach()) for name, value in model.state_dict().items()}
    return json_hash([type(model).__name__, tensors_hash(weights), model.settings()])


def _narrow(value: torch.Tensor) -> torch.Tensor:
    """A number of another type than float32 as float32, where it is the same there."""
    if not value.is_floating_point() or value.dtype == torch.float32:
        return value
    single = value.float()
    return single if torch.equal(single.to(value.dtype), value) else value
