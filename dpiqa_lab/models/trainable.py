"""Networks whose state a run saves and restores."""

import torch
from torch import nn

from ..core.errors import LabError, listing


class Trainable(nn.Module):
    """Base of all networks that the fit loop trains."""

    def run_state(self) -> dict[str, torch.Tensor]:
        """Names and values of the tensors in a run's checkpoints, buffers included.

        Frozen pretrained parts are left out: a run records their source, revision and hash.
        """
        return dict(self.state_dict())

    def added_to_run_state(self) -> set[str]:
        """Names in ``run_state`` that runs of earlier versions lack."""
        return set()

    def load_run_state(self, state: dict[str, torch.Tensor]) -> None:
        """Put ``run_state`` back; what a run of an earlier version lacks stays as it was built.

        Raises:
            LabError: names or shapes differ; the message lists them.
        """
        own, added = self.run_state(), self.added_to_run_state()
        if not added & state.keys():
            own = {name: value for name, value in own.items() if name not in added}
        self._check(own, state)
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(state[name])

    def load_whole_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take every parameter and buffer from ``state``, frozen ones too.

        A network on torch's meta device, built without initialising what is replaced here, comes
        into being on the CPU.

        Raises:
            LabError: names or shapes differ; the message lists them.
        """
        own = self.state_dict()
        self._check(own, state)
        if any(value.is_meta for value in own.values()):
            self.to_empty(device="cpu")
        self.load_state_dict(state)

    def _check(self, own: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> None:
        problems = misfits(own, state)
        if problems:
            kind = type(self).__name__.lower()
            raise LabError(f"weights do not fit the {kind}:\n{listing(problems)}")


def misfits(expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> list[str]:
    """In words, where the names, shapes or kinds of number in ``found`` are not as expected."""
    problems = [f"missing {name}" for name in expected if name not in found]
    problems += [f"unexpected {name}" for name in found if name not in expected]
    for name in [name for name in expected if name in found]:
        want, have = (tuple(state[name].shape) for state in (expected, found))
        if want != have:
            problems.append(f"{name} is {have}, expected {want}")
        elif expected[name].is_floating_point() != found[name].is_floating_point():
            problems.append(f"{name} is {found[name].dtype}, expected {expected[name].dtype}")
    return problems
