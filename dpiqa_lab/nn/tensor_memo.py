"""Memoizes values derived from a tensor within a context."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TypeVar

import torch
from torch.utils.weak import WeakIdKeyDictionary

T = TypeVar("T")

# In a context, by tensor: its version, and the derived values by name. Entries end with the tensor.
_memo: ContextVar[WeakIdKeyDictionary | None] = ContextVar("memo", default=None)


@contextlib.contextmanager
def memoize_tensors() -> Iterator[None]:
    """Context in which ``memoized`` stores values; an inner context shares those of the outer one.

    Values end with the context (and thread), because not every change of weights is counted in
    their version: torch's fused optimisers and writes through ``.data`` are not.
    """
    outer = _memo.get()
    token = _memo.set(WeakIdKeyDictionary() if outer is None else outer)
    try:
        yield
    finally:
        _memo.reset(token)


def memoized(tensor: torch.Tensor, name: str, make: Callable[[], T]) -> T:
    """``make()``, called once per ``memoize_tensors`` context until ``tensor`` is written to.

    Use it without gradients: the stored value would hold the graph of the first call.
    """
    # Lookups cannot be compiled, and torch counts no writes to tensors of inference mode.
    uncounted = torch.compiler.is_compiling() or tensor.is_inference()
    if uncounted or (memo := _memo.get()) is None:
        return make()
    now = tensor._version  # noqa: SLF001 - torch has no public counter of writes
    version, found = memo.get(tensor, (None, {}))
    if version != now:
        _, found = memo[tensor] = now, {}
    if name not in found:
        found[name] = make()
    return found[name]
