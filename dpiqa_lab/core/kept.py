"""What is computed of a tensor alone, kept until its numbers change."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch.utils.weak import WeakIdKeyDictionary

T = TypeVar("T")

# By tensor: a mark of its numbers, and what was made of them by name. Goes when the tensor goes.
_kept = WeakIdKeyDictionary()


def kept(tensor: torch.Tensor, name: str, make: Callable[[], T]) -> T:
    """``make()`` of ``tensor``, made once for as long as its numbers stay the same.

    What writes into ``tensor``, as a step of training does, or moves it to another place or type
    makes it anew. Use it without gradients: what is kept would hold on to the graph of the first
    call.
    """
    if tensor.is_inference():  # of which torch does not tell whether they were written into
        return make()
    now = tensor._version, tensor.data_ptr(), tensor.dtype
    mark, found = _kept.get(tensor, (None, {}))
    if mark != now:
        mark, found = _kept[tensor] = now, {}
    if name not in found:
        found[name] = make()
    return found[name]
