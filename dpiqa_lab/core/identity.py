"""What makes a run the one that it is: parameters, photographs, models and the lab's version.

Two runs of one identity give the same results. A run folder records its identity in
``config.json`` (the resolved parameters), ``identity.json`` (the lab's version, a hash of the data,
and of every model that went in its source, revision and hash) and ``data.csv`` (a row a photograph:
name, SHA-256 of the file, score, split and group), so that a difference can be put into words.
"""

import json
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from .errors import series, shortened
from .files import atomic_path, json_hash, read_json, remembered_hash, write_json

# Of data: a row a photograph; ``dataset`` where several datasets go in.
KEY = ["dataset", "name"]
COLUMNS = [*KEY, "sha256", "mos", "split", "group"]
_NAMED = 3  # photographs that a sentence names
_HASH = re.compile("[0-9a-f]{64}")


class Inputs(NamedTuple):
    """What goes into a run beside its parameters.

    Attributes:
        data: some of ``COLUMNS``, in the order in which the photographs are used; ``None`` where
            there are none.
        models: by the part that each plays ("backbone's U-Net", "teacher"): a dict that names its
            source and hash.
        notes: lines to print before the work begins.
    """

    data: pd.DataFrame | None = None
    models: Mapping[str, dict] = {}
    notes: Sequence[str] = ()


class Identity:
    """Parameters and inputs, comparable with what a run folder records.

    Args:
        kind: name of the configuration's class.
    """

    def __init__(
        self,
        parameters: Mapping[str, object],
        inputs: Inputs = Inputs(),  # noqa: B008 - immutable
        kind: str = "",
    ):
        self.parameters = _plain(parameters)
        self.data = None if inputs.data is None else _table(inputs.data)
        self.record = {
            "kind": kind,
            "lab": version("dpiqa-lab"),
            "data": None if self.data is None else json_hash(self.data.to_numpy().tolist()),
            "models": _plain(inputs.models),
        }

    def sha256(self) -> str:
        """Hash of all."""
        return json_hash([self.parameters, self.record])

    def write(self, folder: Path) -> None:
        """Record it in a run folder; ``config.json``, by which a run is known, comes last."""
        (folder / "data.csv").unlink(missing_ok=True)
        if self.data is not None:
            with atomic_path(folder / "data.csv") as temporary:
                self.data.to_csv(temporary, index=False)
        write_json(folder / "identity.json", self.record)
        write_json(folder / "config.json", self.parameters)

    def differences(self, folder: Path) -> list[str]:
        """What a run folder records otherwise, a sentence each; nothing where it is the same."""
        found = _differing(read_json(folder / "config.json"), self.parameters)
        path = folder / "identity.json"
        if not path.is_file():  # of a version that recorded none
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
    """Name of the configuration's class that a run was made by; empty where unknown."""
    path = folder / "identity.json"
    return read_json(path)["kind"] if path.is_file() else ""


def recorded_splits(folder: Path) -> pd.Series | None:
    """Split by name of a run's one dataset, from ``data.csv``; ``None`` where none went in.

    Runs of earlier versions recorded it in ``split.csv``.
    """
    for path in (folder / "data.csv", folder / "split.csv"):
        if path.is_file():
            data = _table(_read(path))
            return data[data["dataset"] == ""].set_index("name")["split"]
    return None


def files_input(path: Path | str) -> dict:
    """A file, or all files of a folder, as one of ``Inputs.models``: its name and hash."""
    path = Path(path).expanduser()
    if path.is_file():
        return {"source": path.name, "sha256": remembered_hash(path)}
    files = sorted(file for file in path.rglob("*") if file.is_file())
    hashes = [[file.relative_to(path).as_posix(), remembered_hash(file)] for file in files]
    return {"source": path.name, "sha256": json_hash(hashes)}


def _read(path: Path) -> pd.DataFrame:
    # A photograph may be called NA: only what is empty is missing.
    text = dict.fromkeys(("dataset", "name", "sha256", "split", "group"), str)
    return pd.read_csv(
        path, dtype=text, keep_default_na=False, na_values={"mos": [""]},
        float_precision="round_trip",
    )  # fmt: skip


def _table(data: pd.DataFrame) -> pd.DataFrame:
    """``COLUMNS`` of the data, as they come back from a file."""
    table = pd.DataFrame({name: data.get(name, "") for name in COLUMNS}, index=data.index)
    for name in table.columns.drop("mos"):
        table[name] = table[name].astype(object).where(table[name].notna(), "").astype(str)
    mos = pd.to_numeric(table["mos"], errors="coerce").astype(object)
    table["mos"] = mos.where(mos.notna(), None)
    return table.reset_index(drop=True)


def _differing(stored: dict, wanted: dict) -> list[str]:
    missing = object()
    return [
        _difference(name, stored, wanted)
        for name in sorted(stored.keys() | wanted.keys())
        if stored.get(name, missing) != wanted.get(name, missing)
    ]


def _difference(name: str, stored: dict, wanted: dict) -> str:
    if all(_HASH.fullmatch(str(values.get(name))) for values in (stored, wanted)):
        # A hash itself says nothing to a reader.
        return f"{'content' if name == 'sha256' else name} changed"
    return f"{name}: {_shown(stored, name)} there, {_shown(wanted, name)} asked for"


def _shown(values: dict, name: str) -> str:
    return shortened(repr(values[name])) if name in values else "absent"


def _model_differences(stored: dict, wanted: dict) -> list[str]:
    found = []
    for role in sorted(stored.keys() | wanted.keys()):
        if role not in stored or role not in wanted:
            found.append(f"{role}: {'only there' if role in stored else 'only now'}")
        elif stored[role] != wanted[role]:
            words = ", ".join(_differing(stored[role], wanted[role]))
            found.append(f"{role} is another one ({words})")
    return found


def _data_differences(folder: Path, now: pd.DataFrame | None) -> list[str]:
    """In words what is different in the photographs, their scores, splits and groups."""
    if now is None or not (folder / "data.csv").is_file():
        return ["the photographs are others" if now is None else "no photographs are recorded"]
    before, now = (t.set_index(KEY) for t in (_table(_read(folder / "data.csv")), now))
    if before.index.has_duplicates or now.index.has_duplicates:
        return ["the photographs are others"]
    gone, new = (a.index.difference(b.index, sort=False) for a, b in ((before, now), (now, before)))
    found = [f"{len(gone):,} photographs gone ({_names(gone)})"] if len(gone) else []
    found += [f"{len(new):,} photographs new ({_names(new)})"] if len(new) else []
    both = now.index.intersection(before.index, sort=False)
    before_both, now_both = before.loc[both], now.loc[both]

    def changed(column: str) -> pd.Index:
        return both[(before_both[column] != now_both[column]).to_numpy() & ~_missing(column)]

    def _missing(column: str):
        return (before_both[column].isna() & now_both[column].isna()).to_numpy()

    for column, what in (("sha256", "photographs have another content"), ("mos", "scores differ")):
        if len(names := changed(column)):
            found.append(f"{len(names):,} of {len(both):,} {what} ({_names(names)})")
    if len(names := changed("split")):
        moved = pd.concat([before_both["split"], now_both["split"]]).loc[names].unique()
        *others, last = sorted(moved)
        drawn = f"{', '.join(others)} and {last}"
        found.append(f"{drawn} drawn anew: {len(names):,} photographs changed place")
    if len(names := changed("group")):
        found.append(f"{len(names):,} photographs belong to other groups ({_names(names)})")
    return found or ["the photographs come in another order"]


def _names(index: pd.Index) -> str:
    return series(["/".join(filter(None, key)) for key in index], _NAMED)


def _plain(value: object) -> object:
    """As JSON gives it back."""
    return json.loads(json.dumps(value))
