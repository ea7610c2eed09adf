"""A network that keeps and takes back what is trained of it."""

import torch
from torch import nn

from ..core.errors import LabError


class Trainable(nn.Module):
    """Base of everything that the fit loop trains."""

    def trainable_state(self) -> dict[str, torch.Tensor]:
        """Names and values of everything that is trained: what a checkpoint keeps."""
        return {name: p.detach() for name, p in self.named_parameters() if p.requires_grad}

    def load_trainable_state(self, state: dict[str, torch.Tensor]) -> None:
        """Put ``trainable_state`` back.

        Raises:
            LabError: names or shapes differ; the message lists them.
        """
        own = self.trainable_state()
        problems = [f"missing {name}" for name in own if name not in state]
        problems += [f"unexpected {name}" for name in state if name not in own]
        problems += [
            f"{name} is {tuple(state[name].shape)}, expected {tuple(own[name].shape)}"
            for name in own
            if name in state and state[name].shape != own[name].shape
        ]
        if problems:
            kind = type(self).__name__.lower()
            raise LabError(f"weights do not fit the {kind}: " + "; ".join(problems[:8]))
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(state[name])
