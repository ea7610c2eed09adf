"""Checkpoints: weights and trainer state as safetensors, whole or absent, checked when read.

A checkpoint is a folder ``step-00000250`` with ``weights.safetensors``, ``optimizer.safetensors``
and ``state.json``, which holds their hashes. It gets its name by a rename once all is on disk. The
last two are kept, so that one damaged later does not end a run.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ..core.errors import LabError
from ..core.files import atomic_path, file_hash, read_json, write_json
from ..core.runs import Run

KEEP = 2
_FILES = ("weights.safetensors", "optimizer.safetensors")


def save_weights(path: Path, state: dict[str, torch.Tensor], **metadata: str) -> None:
    """Write named tensors to ``path`` atomically, with ``metadata`` in the file's header."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata)


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors in a safetensors file.

    Raises:
        LabError: it is missing or damaged.
    """
    try:
        return load_file(path)
    except Exception as error:  # safetensors raises several kinds
        raise LabError(f"{path}: no readable weights ({error}).") from error


def restore(load: Callable[[dict[str, torch.Tensor]], None], path: Path) -> None:
    """Call a network's ``load`` with the tensors in ``path``.

    Raises:
        LabError: the file is missing or damaged, or does not fit; it is named.
    """
    state = load_weights(path)
    try:
        load(state)
    except LabError as error:
        raise LabError(f"{path}: {error}") from error


def find_weights(run: Run, weights: str) -> Path:
    """The file with a run's "best" or "last" weights.

    Raises:
        LabError: the run has no such weights yet.
    """
    path = run.checkpoints / f"{weights}.safetensors"
    if not path.is_file():
        raise LabError(f"run {run.name} has no {weights} weights yet: {path} is missing.")
    return path


def save_checkpoint(
    folder: Path,
    step: int,
    weights: dict[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    state: dict,
) -> None:
    """Write ``step-<step>`` under ``folder`` and drop all but the last two."""
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".writing-*"):
        shutil.rmtree(leftover)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".writing-"))
    for name, tensors in zip(_FILES, (weights, _pack(optimizer)), strict=True):
        save_weights(temporary / name, tensors)
    hashes = {name: file_hash(temporary / name) for name in _FILES}
    write_json(temporary / "state.json", {"step": step, "hashes": hashes, **state})
    final = folder / f"step-{step:08d}"
    if final.exists():
        shutil.rmtree(final)
    temporary.chmod(0o755)
    os.replace(temporary, final)
    for old in _all(folder)[:-KEEP]:
        shutil.rmtree(old)


def load_checkpoint(folder: Path, optimizer: torch.optim.Optimizer, say=print):
    """The newest whole checkpoint as (weights, state), the optimiser's put back; or ``None``."""
    for path in reversed(_all(folder)):
        try:
            state = read_json(path / "state.json")
            damaged = [name for name in _FILES if file_hash(path / name) != state["hashes"][name]]
        except (OSError, ValueError, KeyError) as error:
            damaged = [str(error)]
        if damaged:
            say(f"checkpoint {path.name} is damaged ({', '.join(damaged)}): using the one before.")
            shutil.rmtree(path)
            continue
        weights, packed = (load_weights(path / name) for name in _FILES)
        _unpack(packed, optimizer)
        return weights, state
    return None


def drop_checkpoints(folder: Path) -> None:
    """Delete the trainer states of a run that needs them no more."""
    for path in _all(folder):
        shutil.rmtree(path)


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def _pack(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's tensors by "<parameter>.<name>"."""
    states = optimizer.state_dict()["state"]
    return {f"{i}.{name}": value for i, s in states.items() for name, value in s.items()}


def _unpack(packed: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    states: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in packed.items():
        i, name = key.split(".", 1)
        like = parameters[int(i)]
        if value.shape == like.shape:
            # The fused kernels want the layout in memory that the parameter has.
            value = torch.empty_like(like, dtype=value.dtype).copy_(value)
        states.setdefault(int(i), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
