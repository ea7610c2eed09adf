"""Learning rates by layer."""

from collections.abc import Iterable

from torch import nn

SCALINGS = ("uniform", "fan_in")
# Inputs of a layer at which "fan_in" leaves the rate as it is.
REFERENCE_FAN_IN = 1000


def parameter_groups(parameters: Iterable[nn.Parameter], scaling: str) -> list[dict]:
    """Adam's parameter groups: ``params`` and ``scale``, a multiple of the learning rate.

    A step of Adam moves each weight by the rate, so a layer's output by up to rate x number of
    inputs: the regressor's first layer has 32,768 of them. Published: "uniform", at a rate (1e-5)
    slow enough for it. "fan_in" divides the rate of a weight by its number of inputs (as in maximal
    update parametrisation, Yang et al. 2022), so that all layers move alike and training from
    scratch takes hundreds of steps, not thousands.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in parameters:
        inputs = parameter[0].numel() if parameter.ndim > 1 else REFERENCE_FAN_IN
        scale = 1.0 if scaling == "uniform" else REFERENCE_FAN_IN / inputs
        groups.setdefault(scale, []).append(parameter)
    return [{"params": group, "scale": scale} for scale, group in sorted(groups.items())]
