"""What is computed of a tensor alone, kept for as long as a block lasts."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TypeVar

import torch
from torch.utils.weak import WeakIdKeyDictionary

T = TypeVar("T")

# Within a block, by tensor: its version, and what was made of it by name. Goes with the tensor. A
# thread has its own.
_kept: ContextVar[WeakIdKeyDictionary | None] = ContextVar("kept", default=None)


@contextlib.contextmanager
def memoize_tensors() -> Iterator[None]:
    """Within the block ``memoized`` keeps; in a block within another, the outer one's serve.

    Nothing outlasts it, as not all that changes weights is counted in their version: torch's fused
    optimisers and writes through ``.data`` are not. torch's autocast keeps its weights as long.
    """
    outer = _kept.get()
    token = _kept.set(WeakIdKeyDictionary() if outer is None else outer)
    try:
        yield
    finally:
        _kept.reset(token)


def memoized(tensor: torch.Tensor, name: str, make: Callable[[], T]) -> T:
    """``make()`` of ``tensor``, within ``memoize_tensors`` once while its values stay the same.

    Use it without gradients: what is kept would hold on to the graph of the first call.
    """
    # What is kept cannot be compiled, and to tensors of inference mode torch counts no writes.
    apart = torch.compiler.is_compiling() or tensor.is_inference()
    if apart or (known := _kept.get()) is None:
        return make()
    version, found = known.get(tensor, (None, {}))
    if version != tensor._version:
        version, found = known[tensor] = tensor._version, {}
    if name not in found:
        found[name] = make()
    return found[name]
