"""Exponential moving average of a network's weights."""

import copy

import torch

from ..models.image_scorer import ModelOutput
from ..models.trainable import Trainable


class ModelEma(Trainable):
    """A network in training, and the exponential moving mean of its weights in evaluation.

    A checkpoint holds both, and the number of updates: a resumed run needs them.

    Args:
        network: is trained.
        decay: of the mean, below 1. It starts as (1 + n) / (10 + n) after n steps, so that the
            initial weights are forgotten soon.
    """

    updates: torch.Tensor

    def __init__(self, network: Trainable, decay: float) -> None:
        super().__init__()
        self.network = network
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.decay = decay
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def forward(self, images: torch.Tensor) -> ModelOutput:
        """Of the network in training, of the mean in evaluation."""
        return (self.network if self.training else self.average)(images)

    @torch.no_grad()
    def update(self) -> None:
        """Take the network's weights into the mean; counts of batch norms are copied."""
        self.updates += 1
        n = int(self.updates.item())
        decay = min(self.decay, (1 + n) / (10 + n))
        new = self.network.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(new[name], 1 - decay)
            else:
                value.copy_(new[name])

    @torch.no_grad()
    def restart(self) -> None:
        """Set the mean to the network's current weights."""
        self.updates.zero_()
        self.average.load_state_dict(self.network.state_dict())
