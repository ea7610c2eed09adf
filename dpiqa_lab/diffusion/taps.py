"""Features from inside a network, by module path."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from ..core.errors import LabError, unknown


class _Stop(Exception):  # noqa: N818 - no error
    """Ends a forward pass whose remaining layers are not needed.

    Attributes:
        taps: the block that ends.
    """

    def __init__(self, taps: "FeatureTaps") -> None:
        self.taps = taps


def block_taps(unet: nn.Module, down: bool = True) -> list[str]:
    """Paths of a U-Net's blocks in the order they run: down (unless left out), mid and up."""
    sides = {
        side: unet.get_submodule(side).named_children() for side in ("down_blocks", "up_blocks")
    }
    names = {side: [f"{side}.{name}" for name, _ in blocks] for side, blocks in sides.items()}
    return [*(names["down_blocks"] if down else []), "mid_block", *names["up_blocks"]]


class FeatureTaps:
    """Context manager that keeps the outputs of the named modules.

    >>> with FeatureTaps(unet, ["up_blocks.1", "mid_block"], stop=True) as taps:
    ...     unet(latents, 1, prompts)
    >>> taps["up_blocks.1"].shape

    Of a tuple the first item is kept. Hooks are removed when the block ends, after an error too.

    In nested blocks a stop ends the block whose taps are complete: the inner one ends only passes
    within it, and taps of the outer one may not have run; the outer one ends both. Of a module
    that both tap, the outer block sees the output, and stops, first.

    Args:
        network: any module.
        names: module paths as in ``network.named_modules()``.
        stop: end the pass after the last of these modules has run.
        copy: keep copies; needed where later layers change an output in place, as an image
            adapter's residuals change ``down_blocks.3``.

    Raises:
        LabError: a name is no module of ``network``, with the nearest one.
    """

    def __init__(
        self, network: nn.Module, names: Sequence[str], stop: bool = False, copy: bool = True
    ) -> None:
        modules = dict(network.named_modules())
        for name in names:
            if not name or name not in modules:
                raise unknown("tap", name, [path for path in modules if path.count(".") <= 2])
        self.network = network
        self.names = list(dict.fromkeys(names))
        self.stop = stop
        self.copy = copy
        self._modules = {name: modules[name] for name in self.names}
        self._features: dict[str, torch.Tensor] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> "FeatureTaps":
        self._features.clear()
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_hook(self._keeper(name)))
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        return isinstance(error, _Stop) and error.taps is self

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._features:
            state = "has not run" if name in self._modules else "was not tapped"
            raise LabError(f"tap {name!r} {state}; tapped: {', '.join(self.names)}.")
        return self._features[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __repr__(self) -> str:
        rows = [f"{n}: {tuple(f.shape)}" for n, f in self._features.items()]
        return f"FeatureTaps({', '.join(rows) or 'nothing yet'})"

    def _keeper(self, name: str) -> Callable[..., None]:
        def keep(_module: nn.Module, _inputs: object, output: torch.Tensor | tuple) -> None:
            first = output[0] if isinstance(output, tuple) else output
            self._features[name] = first.clone() if self.copy else first
            if self.stop and len(self._features) == len(self.names):
                raise _Stop(self)

        return keep
