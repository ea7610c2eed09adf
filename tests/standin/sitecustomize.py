"""A second device where there is none: tensors that say they are on it, and the CPU computes.

Python runs this file as it starts where its folder is on ``PYTHONPATH``. As a GPU would, torch then
refuses to mix the device's tensors with the CPU's or to hand them to numpy, so that work which
leaves the device it was given fails here too. A GPU's speed, memory and rounding are not shown.
"""

import accelerate.state
import torch
from torch.utils import _device, backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_iter, tree_map_only

from dpiqa_lab.core import device as lab_device

NAME = "standin"
aten = torch.ops.aten
MOVES = {aten.copy_.default, aten._to_copy.default}
# The tensor that is indexed has to be on the device, what it is indexed by need not.
INDEXING = {
    aten.index.Tensor, aten.index_put.default, aten.index_put_.default,
    aten._index_put_impl_.default,
}  # fmt: skip


class Backend(backend_registration._DummyBackendModule):
    """What torch and accelerate ask of ``torch.standin``."""

    def synchronize(self, *_):
        pass

    manual_seed = set_device = set_rng_state = synchronize

    def get_rng_state(self, *_):
        return torch.get_rng_state()

    def get_amp_supported_dtype(self):
        return [torch.bfloat16, torch.float16]


class Elsewhere(torch.Tensor):
    """A tensor on the device; ``here`` is the one on the CPU that it stands for."""

    @staticmethod
    def __new__(cls, here):
        return torch.Tensor._make_wrapper_subclass(
            cls, here.shape, strides=here.stride(), storage_offset=here.storage_offset(),
            dtype=here.dtype, layout=here.layout, device=torch.device(NAME, 0),
        )  # fmt: skip

    def __init__(self, here):
        self.here = here

    def __repr__(self, **_):
        return f"Elsewhere({self.here!r})"

    def tolist(self):
        return self.here.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return computed(func, args, kwargs or {})


class Made(TorchDispatchMode):
    """Sees the calls in which no tensor of the device has a part: those that make one."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return computed(func, args, kwargs or {})


def computed(func, args, kwargs):
    """``func`` of the tensors that those of the device stand for, its results on the device."""
    tensors = [item for item in tree_iter((args, kwargs)) if isinstance(item, torch.Tensor)]
    elsewhere = any(isinstance(tensor, Elsewhere) for tensor in tensors)
    asked = kwargs.get("device")
    stays = elsewhere if asked is None else torch.device(asked).type == NAME
    if not (elsewhere or stays):
        return func(*args, **kwargs)
    if elsewhere and func not in MOVES:
        for tensor in tensors:
            by = func in INDEXING and tensor is not args[0]
            if not (isinstance(tensor, Elsewhere) or tensor.dim() == 0 or by):
                shape = tuple(tensor.shape)
                raise RuntimeError(f"{func}: a tensor {shape} of the CPU among some of {NAME}")
    here_args, here_kwargs = tree_map_only(Elsewhere, lambda t: t.here, (args, kwargs))
    if asked is not None:
        here_kwargs |= {"device": torch.device("cpu")}
    result = func(*here_args, **here_kwargs)
    if func is aten.copy_.default:
        return args[0]
    if not stays or not any(isinstance(item, torch.Tensor) for item in tree_iter(result)):
        return result
    result = tree_map_only(torch.Tensor, Elsewhere, result)
    if func in MOVES or not elsewhere:
        return result
    return return_and_correct_aliasing(func, args, kwargs, result)


def _moved(make):
    """``torch.tensor`` and its like ask a backend's own code for memory; this one has none."""

    def made(data, *args, device=None, **kwargs):
        tensor = make(data, *args, **kwargs)
        return tensor if device is None else tensor.to(device)

    return made


def _new_tensor(self, data, dtype=None, device=None):
    return torch.tensor(data, dtype=dtype or self.dtype, device=device or self.device)


_choose_compute = lab_device.choose_compute


def choose_compute(device="auto", precision="auto", compile=False):
    if device != NAME:
        return _choose_compute(device, precision, compile)
    precision = "float32" if precision == "auto" else precision
    return lab_device.Compute(torch.device(NAME), precision, "as asked", compile)


backend_registration._setup_privateuseone_for_python_backend(NAME, Backend())
# Autocast there changes no precision.
_unchanged = torch.library.Library("_", "IMPL", "AutocastPrivateUse1")
_unchanged.fallback(torch.library.fallthrough_kernel)
# torch knows the functions that make tensors as they are at its first look: before others stand in.
_device._device_constructors()
torch.tensor, torch.as_tensor = _moved(torch.tensor), _moved(torch.as_tensor)
torch.Tensor.new_tensor = _new_tensor
lab_device.DEVICES = (*lab_device.DEVICES, NAME)
lab_device.choose_compute = choose_compute
accelerate.state.PartialState.default_device = property(lambda self: torch.device(NAME))
Made().__enter__()
