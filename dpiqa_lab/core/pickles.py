"""Reads tensors from ``.pth`` files without executing code."""

import pickle
import re
import zipfile
from pathlib import Path
from typing import TypeGuard

import torch

from .errors import LabError, listing


def read_state_dict(path: Path | str) -> dict[str, torch.Tensor]:
    """Named tensors of a ``.pth`` file, on the CPU, mapped from the disk if its format allows.

    An enclosing ``{"state_dict": ...}`` or ``{"model": ...}`` and DataParallel's prefix ``module.``
    are removed.

    Raises:
        LabError: the file is missing, damaged, contains anything but named tensors, or a value is
            NaN or infinite.
    """
    state = _read(path)
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not state:
        raise LabError(f"{path}: expected a state dict, found {_kind(state)}.")
    if all(isinstance(name, str) and name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    problems = [
        f"{name!r} is {_kind(value)}, expected a tensor"
        for name, value in state.items()
        if not isinstance(name, str) or not _plain(value)
    ]
    problems = problems or [f"{n} is NaN or infinite" for n, v in state.items() if not _finite(v)]
    if problems:
        raise LabError(f"{path}: not a usable state dict:\n{listing(problems)}")
    return state


def read_tensor(path: Path | str) -> torch.Tensor:
    """The one tensor of floating-point numbers in a ``.pth`` file, on the CPU.

    Raises:
        LabError: as ``read_state_dict``.
    """
    value = _read(path)
    if not (_plain(value) and value.is_floating_point() and _finite(value)):
        raise LabError(f"{path}: expected one tensor of finite numbers, found {_kind(value)}.")
    return value


def _read(path: Path | str) -> object:
    path = Path(path)
    if not path.is_file():
        raise LabError(f"{path}: no such file.")
    try:
        mapped = zipfile.is_zipfile(path)
        if mapped:
            # torch does not verify the checksums that it writes.
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            if damaged:
                raise LabError(f"{path}: damaged or altered at {damaged}; download the file again.")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except LabError:
        raise
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f" ({named[1]})" if named else ""
        raise LabError(
            f"{path}: not a file of plain tensors{what}. Other objects can run code when they are "
            "read, so nothing was read. Save only its state dict: "
            "torch.save(model.state_dict(), path)."
        ) from error
    except Exception as error:  # torch raises many types for other files
        cause = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise LabError(f"{path}: not a readable checkpoint ({cause}).") from error


def _plain(value: object) -> TypeGuard[torch.Tensor]:
    return isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_meta


def _finite(value: torch.Tensor) -> bool:
    if not value.is_floating_point() or not value.numel():
        return True
    return all(torch.isfinite(end).item() for end in value.aminmax())


def _kind(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor {tuple(value.shape)} {value.dtype} {value.layout} on {value.device}"
    return f"{type(value).__name__} {str(value)[:40]!r}"
