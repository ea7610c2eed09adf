"""What is computed of weights alone, kept until they change."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch.utils.weak import WeakIdKeyDictionary

T = TypeVar("T")

# By weight: the version that it had, and what was made of it by name. Goes when the weight goes.
_kept = WeakIdKeyDictionary()


def kept(weight: torch.Tensor, name: str, make: Callable[[], T]) -> T:
    """``make()`` of ``weight``, made once for as long as its numbers stay the same.

    A step of training, as anything that writes into ``weight``, makes it anew. Use it without
    gradients: what is kept would hold on to the graph of the first call.
    """
    version, found = _kept.get(weight, (None, {}))
    if version != weight._version:
        version, found = _kept[weight] = weight._version, {}
    if name not in found:
        found[name] = make()
    return found[name]
