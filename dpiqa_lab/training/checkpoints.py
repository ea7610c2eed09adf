"""Checkpoints: weights and trainer state as safetensors, whole or absent, checked when read.

A checkpoint is a folder ``step-00000250`` with ``weights.safetensors``, ``optimizer.safetensors``
and ``state.json``, which holds their hashes. It is renamed to this once all is on disk. The last
two are kept, so that a damaged one does not end a run. Weights on their own, "best" and
"last", carry a checksum in the file's header.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ..core.errors import LabError
from ..core.files import (
    atomic_path,
    check_disk_space,
    file_hash,
    flush,
    read_json,
    tensors_hash,
    write_json,
)
from ..core.runs import Run

KEEP = 2
_FILES = ("weights.safetensors", "optimizer.safetensors")
_WRITING = ".writing-"


def save_weights(path: Path, state: dict[str, torch.Tensor]) -> None:
    """Write named tensors to ``path`` atomically, with their checksum."""
    tensors = _plain(state)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {"sha256": tensors_hash(tensors)})


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors in a safetensors file, compared with their checksum where it has one.

    Raises:
        LabError: it is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            known = (file.metadata() or {}).get("sha256")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors raises several kinds
        raise LabError(f"{path}: no readable weights ({error}).") from error
    if known not in (None, tensors_hash(tensors)):
        raise LabError(
            f"{path} was damaged after it was written: its checksum differs. Put back a copy of "
            "it, or delete the run's folder and train again."
        )
    return tensors


def restore(load: Callable[[dict[str, torch.Tensor]], None], path: Path) -> None:
    """Call a network's ``load`` with the tensors in ``path``.

    Raises:
        LabError: the file is missing or damaged, or does not fit; it is named.
    """
    state = load_weights(path)
    with naming(path):
        load(state)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """A LabError within the block names ``path`` first."""
    try:
        yield
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
    """Write ``step-<step>`` under ``folder`` and drop all but the last two.

    Raises:
        LabError: the disk is full; the checkpoints before are still there.
    """
    final = folder / f"step-{step:08d}"
    with check_disk_space(final):
        folder.mkdir(parents=True, exist_ok=True)
        _drop_unfinished(folder)
        temporary = Path(tempfile.mkdtemp(dir=folder, prefix=_WRITING))
        try:
            for name, tensors in zip(_FILES, (weights, _pack(optimizer)), strict=True):
                save_file(_plain(tensors), temporary / name)
                flush(temporary / name)
            hashes = {name: file_hash(temporary / name) for name in _FILES}
            write_json(temporary / "state.json", {"step": step, "hashes": hashes, **state})
            if final.exists():
                shutil.rmtree(final)
            temporary.chmod(0o755)
            temporary.replace(final)
        finally:  # its space may be what is wanted
            shutil.rmtree(temporary, ignore_errors=True)
    for old in _all(folder)[:-KEEP]:
        shutil.rmtree(old)


def load_checkpoint(
    folder: Path, optimizer: torch.optim.Optimizer, say: Callable[[str], None] = print
) -> tuple[dict[str, torch.Tensor], dict] | None:
    """The newest whole checkpoint as (weights, state), the optimiser's put back; or ``None``.

    A damaged one is deleted, and ``say`` is called with a message.
    """
    for path in reversed(_all(folder)):
        try:
            state = read_json(path / "state.json")
            damaged = [name for name in _FILES if file_hash(path / name) != state["hashes"][name]]
        except (OSError, ValueError, KeyError) as error:
            damaged = [str(error)]
        if damaged:
            say(
                f"checkpoint {path.name} is damaged ({', '.join(damaged)}): deleted. The one "
                "before it is used, or the run starts over where there is none."
            )
            shutil.rmtree(path)
            continue
        weights, packed = (load_weights(path / name) for name in _FILES)
        _unpack(packed, optimizer)
        return weights, state
    return None


def drop_checkpoints(folder: Path) -> None:
    """Delete the trainer states of a finished run."""
    _drop_unfinished(folder)
    for path in _all(folder):
        shutil.rmtree(path)


def last_step(folder: Path) -> int | None:
    """The step of the newest checkpoint; ``None`` where there is none."""
    found = _all(folder)
    return int(found[-1].name.removeprefix("step-")) if found else None


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def _drop_unfinished(folder: Path) -> None:
    for leftover in folder.glob(f"{_WRITING}*"):
        shutil.rmtree(leftover)


def _plain(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}


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
