"""The fit loop's use of accelerate: one process or several."""

from typing import TYPE_CHECKING

import torch
from torch import nn

from ..core import distributed
from ..core.device import Compute
from ..core.errors import LabError

if TYPE_CHECKING:
    from accelerate import Accelerator


def accelerator_for(compute: Compute) -> "Accelerator":
    """An ``Accelerator`` for this device and precision, and all processes of the training.

    Raises:
        LabError: float16 on a CPU; or it is set to shard the weights, or to another way that is not
            supported.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs, DistributedType

    # accelerate keeps one precision and device a process; a notebook trains with several in turn.
    AcceleratorState._reset_state(  # noqa: SLF001 - there is no public way
        reset_partial_state=distributed.count() == 1
    )
    if compute.precision == "float16" and compute.device.type == "cpu":
        raise LabError(
            "precision='float16' cannot train on a CPU, where no scaler keeps small gradients from "
            "vanishing; use 'bfloat16' or 'float32'."
        )
    mixed = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}[compute.precision]
    # Some weights have no part in a loss (those behind the last tap); batch norms' statistics are
    # averaged after a step.
    several = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
    accelerator = Accelerator(
        mixed_precision=mixed, cpu=compute.device.type == "cpu", kwargs_handlers=[several]
    )
    plain = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
    if accelerator.distributed_type not in plain:
        raise LabError(
            f"training under {accelerator.distributed_type.value} is not supported: checkpoints "
            "are written from whole weights. Use accelerate's plain data parallelism."
        )
    return accelerator


def agree(accelerator: "Accelerator", loss: float, stop: bool) -> tuple[float, bool]:
    """The step's loss over all processes, and whether any of them has to stop."""
    if accelerator.num_processes == 1:
        return loss, stop
    known = torch.tensor([loss, stop], dtype=torch.float64, device=accelerator.device)
    loss, stop = accelerator.reduce(known, "sum").tolist()
    return loss, stop > 0


def share_statistics(accelerator: "Accelerator", network: nn.Module) -> None:
    """Average the running statistics of batch norms over all processes."""
    if accelerator.num_processes == 1:
        return
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    norms = [m for m in network.modules() if isinstance(m, kinds)]
    values = [value for m in norms for value in (m.running_mean, m.running_var)]
    known = [value for value in values if value is not None]
    if known:
        mean = accelerator.reduce(torch.cat(known), "mean")
        for value, new in zip(known, mean.split([len(v) for v in known]), strict=True):
            value.copy_(new)
