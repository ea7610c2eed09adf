"""Networks small enough to see through."""

import torch
from torch import nn

from dpiqa_lab.core.device import choose_compute
from dpiqa_lab.models.trainable import Trainable
from dpiqa_lab.training.loop import Task

CPU = choose_compute("cpu", "float32")


class Weight(Trainable):
    """One weight, times its input."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.weight * x


class Small(Task):
    """Steps of two batches of one photograph each; ``spoil`` changes the loss of one of them."""

    goal = "near"

    def __init__(self, spoil=None, at="p05-b.png"):
        self.network = Weight()
        self.spoil, self.at = spoil, at

    def batches(self, epoch, start):
        for step in range(start, 12):
            yield [[[f"p{step + 1:02d}-{half}.png"]] for half in "ab"]

    def names(self, batch):
        return batch[0]

    def loss(self, model, batch):
        output = model(torch.ones(1))
        loss = (output - 2).square().mean()
        spoilt = self.spoil is not None and batch[0][0] == self.at
        return (self.spoil(loss, output) if spoilt else loss), 1

    def validate(self, model):
        return {"near": -abs(model(torch.ones(1)).item() - 2)}


def stir(module):
    """Weights that carry what differs between images to the end, and norms with statistics.

    torch's own weights lose it, and fresh norms would hide a wrong epsilon or order.
    """
    generator = torch.Generator().manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d):
            deviation = layer.weight[0].numel() ** -0.5
            layer.weight.data.normal_(0, deviation, generator=generator)
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1, generator=generator)
            layer.running_var.uniform_(0.2, 0.6, generator=generator)
            layer.weight.data.uniform_(0.5, 1.5, generator=generator)
            layer.bias.data.normal_(0, 0.1, generator=generator)
    return module
