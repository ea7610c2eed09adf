"""Model folders that were damaged, and checkpoints that would run code when loaded carelessly."""

import contextlib
import io
import json
import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from dpiqa_lab.core.pickles import read_tensor

__all__ = ["ARMED", "MODELS", "PICKLES", "copied", "load_carelessly", "read_tensor"]


def copied(folder: Path, to: Path) -> Path:
    """A model's folder again; its weights as a link where they are not changed."""
    shutil.copytree(folder, to)
    return to


def _weights(change):
    """A change of the tensors."""

    def apply(folder):
        path = folder / "checkpoints" / "best.safetensors"
        state = load_file(path)
        change(state)
        save_file(state, path)

    return apply


def _bytes(change):
    """A change of the weights' bytes."""

    def apply(folder):
        path = folder / "checkpoints" / "best.safetensors"
        path.write_bytes(change(path.read_bytes()))

    return apply


def _config(**values):
    def apply(folder):
        path = folder / "config.json"
        config = {**json.loads(path.read_text()), **values}
        path.write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))

    return apply


def _text(name, text):
    return lambda folder: (folder / name).write_text(text)


def _wrong_shape(state):
    state["to_map.bias"] = torch.zeros(9)


def _transposed(state):
    state["regressor.fc1.weight"] = state["regressor.fc1.weight"].T.contiguous()


def _integers(state):
    state["to_map.bias"] = torch.zeros(8, dtype=torch.int64)


def _all_missing(state):
    state.clear()
    state["<script>"] = torch.zeros(1)


_FIT = r"best\.safetensors: weights do not fit the student:\n"
_UNREADABLE = r"best\.safetensors: no readable weights"
_DESCRIBES = r"config\.json: describes no model that can be built here"
# What, what is done to the folder, what the lab says.
MODELS = [
    ("wrong shape", _weights(_wrong_shape), _FIT + r"  to_map\.bias is \(9,\), expected \(8,\)"),
    ("transposed", _weights(_transposed), _FIT + r"  regressor\.fc1\.weight is \(32768, 8\)"),
    ("missing tensor", _weights(lambda s: s.pop("to_map.bias")), _FIT + r"  missing to_map\.bias"),
    ("another tensor", _weights(lambda s: s.update(x=torch.zeros(1))), _FIT + "  unexpected x"),
    ("nothing of it", _weights(_all_missing), _FIT + r"(.|\n)*… and \d+ more"),
    ("integers", _weights(_integers), _FIT + r"  to_map\.bias is torch\.int64"),
    ("empty weights", _bytes(lambda b: b""), _UNREADABLE),
    ("cut in the header", _bytes(lambda b: b[:100]), _UNREADABLE),
    ("cut in the tensors", _bytes(lambda b: b[:-7]), _UNREADABLE),
    ("header of 2^62 bytes", _bytes(lambda b: (2**62).to_bytes(8, "little") + b[8:]), _UNREADABLE),
    ("a web page as weights", _bytes(lambda b: b"<html>404</html>"), _UNREADABLE),
    ("config cut", _text("config.json", '{"trunk": "effic'), r"config\.json: damaged"),
    ("config empty", _text("config.json", ""), r"config\.json: damaged"),
    ("config a list", _text("config.json", "[1, 2]"), r"config\.json: expected a JSON object"),
    ("config nested a million deep", _text("config.json", "[" * 10**6), r"config\.json: damaged"),
    ("config without a trunk", _config(trunk=...), _DESCRIBES),
    ("config of a negative width", _config(width=-1), _DESCRIBES),
    ("config of text for a number", _config(image_size="64"), _DESCRIBES),
    ("config of an unknown trunk", _config(trunk="../x"), r"unknown trunk '\.\./x'"),
    ("summary cut", _text("summary.json", '{"status": "compl'), r"summary\.json: damaged"),
    ("no weights", lambda f: shutil.rmtree(f / "checkpoints"), "has no best weights yet"),
]


class Armed:
    """Unpickled, it makes the file ``trace``."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return Path.touch, (Path(self.trace),)


def _torch(hide, legacy=False):
    def make(path, trace):
        torch.save(hide(Armed(trace)), path, _use_new_zipfile_serialization=not legacy)

    return make


def _raw(path, trace):
    path.write_bytes(pickle.dumps(Armed(trace)))


def _numpy(path, trace):
    with path.open("wb") as file:
        np.save(file, np.array([Armed(trace)], object), allow_pickle=True)


def _tar(path, trace):
    with tarfile.open(path, "w") as archive:
        content = pickle.dumps(Armed(trace))
        for name in ("sys_info", "pickle", "storages", "tensors"):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def _zip(path, trace):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Armed(trace)))
        archive.writestr("archive/version", "3\n")


def _cut(path, trace):
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:-200])


def _save(value):
    return lambda path, trace: torch.save(value, path)


# What, what makes it of a path and the trace it would leave, what the lab says.
PICKLES = [
    ("a pickle", _raw, "nothing was read|not a readable checkpoint"),
    ("an object saved by torch", _torch(lambda x: x), "nothing was read"),
    ("in a state dict", _torch(lambda x: {"state_dict": {"a": x}}), "nothing was read"),
    ("as a name", _torch(lambda x: {"model": {x: 1}}), "nothing was read"),
    ("beside tensors", _torch(lambda x: {"a": torch.zeros(3), "b": [x]}), "nothing was read"),
    ("torch's old format", _torch(lambda x: {"a": x}, legacy=True), "nothing was read"),
    ("numpy objects", _numpy, "not a readable checkpoint|nothing was read"),
    ("torch's oldest format, a tar", _tar, "not a readable checkpoint|nothing was read"),
    ("a hand-made archive", _zip, "nothing was read"),
    ("a cut archive", _cut, "not a readable checkpoint"),
    (
        "text",
        lambda path, trace: path.write_text("hello"),
        "not a readable checkpoint|plain tensors",
    ),
    ("nothing", lambda path, trace: path.write_bytes(b""), "not a readable checkpoint"),
    ("a whole module", _save(torch.nn.Linear(2, 2)), "nothing was read"),
    ("NaN", _save({"encoder.a": torch.tensor([float("nan")])}), "NaN or infinite|expected one"),
    ("a list", _save([1, 2]), "expected a state dict|expected one tensor"),
]
ARMED = (
    "a pickle", "an object saved by torch", "in a state dict", "beside tensors", "numpy objects",
    "torch's old format", "a hand-made archive",
)  # fmt: skip


def load_carelessly(path: Path) -> None:
    """As much code does that is found on the web."""
    with contextlib.suppress(Exception):  # what is no checkpoint fails after it has run
        if path.read_bytes().startswith(b"\x93NUMPY"):
            np.load(path, allow_pickle=True)
        else:
            torch.load(path, weights_only=False)
