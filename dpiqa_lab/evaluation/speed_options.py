"""What options that do not change the method gain: channels-last layout, torch.compile."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import pandas as pd
import torch
from torch import nn

from ..core.device import Compute
from ..models.student import Student
from ..models.teacher import Teacher
from .measuring import Way, interleaved, timed


def option_gains(
    teacher: Teacher,
    student: Student,
    images: torch.Tensor,
    computes: Sequence[Compute],
    rounds: int = 3,
    compile: bool = False,
) -> pd.DataFrame:
    """Seconds a pass of the U-Net and of the student without an option and with it.

    Args:
        images: (b, 3, s, s), a pass. compile: try ``torch.compile`` too.

    Returns:
        A row a network, precision and option: network, precision, option ("channels last",
        "torch.compile"), without and with_it (seconds a photograph), gain (their ratio), setup_s
        (what the first compiled pass took more) and note: why there is no number.
    """
    with torch.no_grad():
        latents = teacher.encode(images)
        prompts = teacher.adapted_prompts()
    unet = teacher.backbone.unet
    networks: dict[str, tuple[nn.Module, Callable]] = {
        "U-Net": (unet, lambda net: net(latents, 1, encoder_hidden_states=prompts)),
        "student": (student.eval(), lambda net: net(images)),
    }
    rows = []
    for compute in (c for c in computes if c.trains):  # int8 has a layout of its own
        for name, (network, run) in networks.items():
            found = [("channels last", *_layouts(network, run, compute, rounds), 0.0, "")]
            if compile:
                found.append(("torch.compile", *_compiled(network, run, compute, rounds)))
            for option, without, with_it, setup, note in found:
                seconds = without / len(images), with_it / len(images)
                rows.append([name, compute.precision, option, *seconds, setup, note])
    columns = ["network", "precision", "option", "without", "with_it", "setup_s", "note"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(gain=table["without"] / table["with_it"])


def _layouts(network, run, compute: Compute, rounds: int) -> tuple[float, float]:
    def way(layout: torch.memory_format) -> Way:
        @contextlib.contextmanager
        def around() -> Iterator[None]:
            network.to(memory_format=layout)
            with torch.no_grad(), compute.autocast():
                yield

        return Way(lambda: run(network), around)

    ways = {"without": way(torch.contiguous_format), "with": way(torch.channels_last)}
    best = interleaved(ways, rounds, compute.device)
    return best["without"], best["with"]


def _compiled(network, run, compute: Compute, rounds: int) -> tuple[float, float, float, str]:
    with torch.no_grad(), compute.autocast():
        torch.compiler.reset()
        compiled = torch.compile(network)
        try:
            first = timed(lambda: run(compiled), compute.device)
        except Exception as error:  # whatever keeps a compiler from working, the rest goes on
            text = str(error).strip().splitlines() or [""]
            nothing = float("nan")
            note = f"no compiler works here: {type(error).__name__}: {text[0][:160]}"
            return nothing, nothing, nothing, note
        ways = {"without": Way(lambda: run(network)), "with": Way(lambda: run(compiled))}
        best = interleaved(ways, rounds, compute.device)
    return best["without"], best["with"], max(0.0, first - best["with"]), ""
