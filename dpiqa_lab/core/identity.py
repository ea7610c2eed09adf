"""Identity of a run: parameters, images, models and the lab's version.

Runs of equal identity give equal results. A run folder records its identity in ``config.json`` (the
resolved parameters), ``identity.json`` (the lab's version, a hash of the data, and the source,
revision and hash of every model used) and ``data.csv`` (one row per image: name, SHA-256 of the
file, score, split and group), so that differences can be described.
"""

import json
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .errors import series, shortened
from .files import atomic_path, json_hash, read_json, remembered_hash, write_json

# Of the data, one row per image; ``dataset`` if several datasets are used.
KEY = ["dataset", "name"]
COLUMNS = [*KEY, "sha256", "mos", "split", "group"]
_MAX_NAMES = 3  # in a message
_HASH = re.compile("[0-9a-f]{64}")


class Inputs(NamedTuple):
    """Inputs of a run in addition to its parameters.

    Attributes:
        data: some of ``COLUMNS``, in the order in which images are used; ``None`` without images.
        models: source and hash by role ("backbone's U-Net", "teacher").
        notes: lines printed before the work begins.
    """

    data: pd.DataFrame | None = None
    models: Mapping[str, dict] = {}
    notes: Sequence[str] = ()


class Identity:
    """Parameters and inputs, comparable with those recorded in a run folder.

    Args:
        kind: name of the configuration's class.
    """

    def __init__(
        self,
        parameters: Mapping[str, object],
        inputs: Inputs = Inputs(),  # noqa: B008 - immutable
        kind: str = "",
    ) -> None:
        self.parameters = _plain(parameters)
        self.data = None if inputs.data is None else _table(inputs.data)
        self.record: dict[str, Any] = {
            "kind": kind,
            "lab": version("dpiqa-lab"),
            "data": None if self.data is None else json_hash(self.data.to_numpy().tolist()),
            "models": _plain(inputs.models),
        }

    def sha256(self) -> str:
        """Hash of the identity."""
        return json_hash([self.parameters, self.record])

    def write(self, folder: Path) -> None:
        """Record it in a run folder; ``config.json``, which marks a run, is written last."""
        (folder / "data.csv").unlink(missing_ok=True)
        if self.data is not None:
            with atomic_path(folder / "data.csv") as temporary:
                self.data.to_csv(temporary, index=False)
        write_json(folder / "identity.json", self.record)
        write_json(folder / "config.json", self.parameters)

    def differences(self, folder: Path) -> list[str]:
        """Differences from the identity recorded in a run folder, one phrase each."""
        found = _parameter_differences(read_json(folder / "config.json"), self.parameters)
        path = folder / "identity.json"
        if not path.is_file():  # from a version that recorded none
            return [*found, f"made by an earlier version of the lab, now {self.record['lab']}"]
        stored = read_json(path)
        if stored["kind"] != self.record["kind"]:
            found.append(f"made by a {stored['kind']}, now by a {self.record['kind']}")
        if stored["lab"] != self.record["lab"]:
            found.append(f"made by version {stored['lab']} of the lab, now {self.record['lab']}")
        if stored["data"] != self.record["data"]:
            found += _data_differences(folder, self.data)
        return found + _model_differences(stored["models"], self.record["models"])


def recorded_kind(folder: Path) -> str:
    """Name of the class of a run's configuration; empty if unknown."""
    path = folder / "identity.json"
    return read_json(path)["kind"] if path.is_file() else ""


def recorded_splits(folder: Path) -> pd.Series | None:
    """Split by image name of a run's dataset, from ``data.csv``; ``None`` without a dataset.

    Earlier versions recorded it in ``split.csv``.
    """
    for path in (folder / "data.csv", folder / "split.csv"):
        if path.is_file():
            data = _table(_read(path))
            return data[data["dataset"] == ""].set_index("name")["split"]
    return None


def files_input(path: Path | str) -> dict:
    """Name and hash of a file, or of all files of a folder, for ``Inputs.models``."""
    path = Path(path).expanduser()
    if path.is_file():
        return {"source": path.name, "sha256": remembered_hash(path)}
    files = sorted(file for file in path.rglob("*") if file.is_file())
    hashes = [[file.relative_to(path).as_posix(), remembered_hash(file)] for file in files]
    return {"source": path.name, "sha256": json_hash(hashes)}


def _read(path: Path) -> pd.DataFrame:
    # An image may be named NA: only empty cells are missing.
    text = dict.fromkeys(("dataset", "name", "sha256", "split", "group"), str)
    return pd.read_csv(
        path, dtype=text, keep_default_na=False, na_values={"mos": [""]},
        float_precision="round_trip",
    )  # fmt: skip


def _table(data: pd.DataFrame) -> pd.DataFrame:
    """``COLUMNS`` of the data, as read back from a file."""
    table = pd.DataFrame({name: data.get(name, "") for name in COLUMNS}, index=data.index)
    for name in table.columns.drop("mos"):
        table[name] = table[name].astype(object).where(table[name].notna(), "").astype(str)
    mos = pd.to_numeric(table["mos"], errors="coerce").astype(object)
    table["mos"] = mos.where(mos.notna(), None)
    return table.reset_index(drop=True)


def _parameter_differences(stored: dict, wanted: dict) -> list[str]:
    missing = object()
    return [
        _difference(name, stored, wanted)
        for name in sorted(stored.keys() | wanted.keys())
        if stored.get(name, missing) != wanted.get(name, missing)
    ]


def _difference(name: str, stored: dict, wanted: dict) -> str:
    if all(_HASH.fullmatch(str(values.get(name))) for values in (stored, wanted)):
        # The hashes themselves are not informative.
        return f"{'content' if name == 'sha256' else name} changed"
    return f"{name}: {_value(stored, name)} in the run, {_value(wanted, name)} requested"


def _value(values: dict, name: str) -> str:
    return shortened(repr(values[name])) if name in values else "absent"


def _model_differences(stored: dict, wanted: dict) -> list[str]:
    found = []
    for role in sorted(stored.keys() | wanted.keys()):
        if role not in stored or role not in wanted:
            found.append(f"{role}: {'only in the run' if role in stored else 'only requested'}")
        elif stored[role] != wanted[role]:
            words = ", ".join(_parameter_differences(stored[role], wanted[role]))
            found.append(f"{role} differs ({words})")
    return found


def _data_differences(folder: Path, now: pd.DataFrame | None) -> list[str]:
    """Differences in images, scores, splits and groups, one phrase each."""
    if now is None or not (folder / "data.csv").is_file():
        return ["the photographs differ" if now is None else "no photographs are recorded"]
    before, now = (t.set_index(KEY) for t in (_table(_read(folder / "data.csv")), now))
    if before.index.has_duplicates or now.index.has_duplicates:
        return ["the photographs differ"]
    gone, new = (a.index.difference(b.index, sort=False) for a, b in ((before, now), (now, before)))
    found = [f"{len(gone):,} photographs removed ({_names(gone)})"] if len(gone) else []
    found += [f"{len(new):,} photographs added ({_names(new)})"] if len(new) else []
    both = now.index.intersection(before.index, sort=False)
    before_both, now_both = before.loc[both], now.loc[both]

    def changed(column: str) -> pd.Index:
        return both[(before_both[column] != now_both[column]).to_numpy() & ~_missing(column)]

    def _missing(column: str) -> np.ndarray:
        return (before_both[column].isna() & now_both[column].isna()).to_numpy()

    for column, what in (("sha256", "photographs have changed content"), ("mos", "scores differ")):
        if len(names := changed(column)):
            found.append(f"{len(names):,} of {len(both):,} {what} ({_names(names)})")
    if len(names := changed("split")):
        moved = pd.concat([before_both["split"], now_both["split"]]).loc[names].unique()
        *others, last = sorted(moved)
        drawn = f"{', '.join(others)} and {last}"
        found.append(f"{drawn} changed: {len(names):,} photographs are in another split")
    if len(names := changed("group")):
        found.append(f"{len(names):,} photographs are in other groups ({_names(names)})")
    return found or ["the photographs are in another order"]


def _names(index: pd.Index) -> str:
    return series(["/".join(filter(None, key)) for key in index], _MAX_NAMES)


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """``value`` as read back from JSON."""
    return json.loads(json.dumps(value))
