"""Reports all problems of a dataset's folder at once, with advice.

``load_dataset`` stops at the first kind of error, this does not; both use the same checks and
readers.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import LabError
from ..core.paths import data_dir
from .dataset_config import DatasetConfig
from .image_index import build_image_index
from .images import SUFFIXES
from .manifests import find_root, find_scale, locate, outside_of, read_labels, reader_options
from .near_duplicates import scenes_of, with_scenes
from .official_labels_and_splits import find_separator, read_table
from .scale import check_scale
from .specs import DatasetSpec, get_spec
from .split_schemes import SPLITS, assign_split
from .validation_checks import (
    SEVERITIES,
    Finding,
    as_frame,
    check_copies,
    check_count,
    check_labels,
    check_leaks,
    check_near_copies,
    check_scale_used,
    format_findings,
    numbers,
    possible_name,
)

# Levels below and above the root that are searched for misplaced files.
DEPTH = 3


@dataclass(frozen=True)
class Examination:
    """Result of ``examine``.

    Attributes:
        findings: errors first.
        table: labelled images with name, path, hash, error and, if possible, split; every image in
            the folder if the labels cannot be read.
    """

    spec: DatasetSpec
    root: Path
    findings: tuple[Finding, ...]
    table: pd.DataFrame

    @property
    def healthy(self) -> bool:
        """Whether there is no error."""
        return all(finding.severity != "error" for finding in self.findings)

    def __str__(self) -> str:
        lines = [f"{self.spec.title} in {self.root}"]
        texts = format_findings(self.findings)
        lines += [f"{f.severity:8}{text}" for f, text in zip(self.findings, texts, strict=True)]
        return "\n".join([*lines, "fine" if self.healthy else "not fit for use: see the errors"])


def check_dataset(name: str, root: Path | str | None = None, **options: object) -> pd.DataFrame:
    """Check a dataset: files, labels, splits. All problems are listed, not only the first.

    Args:
        name, root: as for ``load_dataset``.
        options: fields of ``ReadingConfig``, such as split_scheme, split_seed, on_bad_image,
            mos_range and lower_better.

    Returns:
        One row per finding, errors first: severity ("error", "warning" or "info"), what, names (a
        tuple of all), advice.

    Raises:
        LabError: an unknown dataset or option, or an invalid value.
    """
    given: dict[str, Any] = {"dataset": name, "data_root": root, **options}
    return as_frame(examine(DatasetConfig(**given)).findings)


def examine(config: DatasetConfig) -> Examination:
    """Check labels, images and split, and continue after errors.

    Bad images are warnings if ``on_bad_image="skip"``.

    Raises:
        LabError: an unknown dataset or an invalid scale; all else is returned as findings.
    """
    spec = get_spec(config.dataset)
    known = reader_options(spec)
    columns = {name: v for name, v in config.dataset_options().items() if name in known}
    check_scale(config.mos_range or spec.mos_range)
    table = pd.DataFrame({"name": pd.Series(dtype=str)})
    try:
        root = find_root(spec, config.data_root)
    except LabError as error:
        missing = Path(config.data_root) if config.data_root else data_dir() / spec.name
        return _examination(spec, missing, [_error_finding(error)], table)
    scale = find_scale(spec, root, config.mos_range, config.lower_better)
    found = _check_headers(spec, root)
    try:
        table = read_labels(spec, root, columns)
    except LabError as error:
        found.append(_error_finding(error, "the labels cannot be read"))
        misplaced = _misplaced_labels(spec, root)
        found += misplaced
        if not misplaced:
            table = _pictures(root)
    else:
        found.append(Finding("info", f"scores {scale}"))
        found += check_labels(table, spec, scale[:2])
        found += check_scale_used(numbers(table["mos_raw"]), spec, scale[:2])
        named = table["name"].map(possible_name).astype(bool)
        table = table[named].drop_duplicates("name").reset_index(drop=True)
        found += check_count(len(table), spec, columns)
        table, unlabelled = locate(table, root)
        found += _check_places(table, unlabelled, root)
    labelled = "mos_raw" in table
    if not len(table):
        return _examination(spec, root, found, table)
    table = table.join(build_image_index(table["path"], root))
    skip = config.on_bad_image == "skip"
    found += _check_photographs(table, root, skip)
    readable = table[table["error"] == ""]
    used = readable if skip else table
    scenes = pd.Series(-1 - np.arange(len(table)), table.index)  # unreadable: each its own
    scenes[readable.index] = scenes_of(readable)
    if labelled and len(used):
        try:
            grouped = with_scenes(used, scenes[used.index]).reset_index(drop=True)
            assigned, described = assign_split(grouped, config.split_scheme, config.split_seed)
        except LabError as error:
            found.append(_error_finding(error, "the photographs cannot be split"))
        else:
            table["split"] = assigned.set_axis(used.index)
            counts = assigned.value_counts()
            sizes = ", ".join(f"{name} {counts[name]:,}" for name in SPLITS)
            found.append(Finding("info", f"{described}: {sizes}"))
            readable = readable.assign(split=table["split"])
            found += check_leaks(readable)
    found += check_copies(readable)
    found += check_near_copies(readable, scenes[readable.index])
    return _examination(spec, root, found, table)


def walk(root: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Files under ``root`` down to ``depth`` levels, sorted."""
    for folder, folders, files in os.walk(root):
        folders.sort()
        if len(Path(folder).relative_to(root).parts) >= depth:
            folders.clear()
        yield from (Path(folder) / file for file in sorted(files))


def _examination(
    spec: DatasetSpec, root: Path, found: Iterable[Finding], table: pd.DataFrame
) -> Examination:
    ordered = sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))
    return Examination(spec, root, tuple(ordered), table)


def _error_finding(error: LabError, what: str = "") -> Finding:
    first, *rest = str(error).splitlines()
    text = f"{what}: {first}" if what else first
    return Finding("error", text.removesuffix("."), tuple(line.strip() for line in rest))


def _pictures(root: Path) -> pd.DataFrame:
    """Name and path of every image under ``root``, labelled or not."""
    paths = [path for path in walk(root) if path.suffix.lower() in SUFFIXES]
    names = [path.relative_to(root).as_posix() for path in paths]
    return pd.DataFrame({"name": names, "path": paths})


def _check_headers(spec: DatasetSpec, root: Path) -> list[Finding]:
    """Label files whose separator or columns are not the release's."""
    found = []
    for file, columns in spec.label_files.items():
        path = root / file
        if not columns or not path.is_file():
            continue
        try:
            names = list(read_table(path).columns)
            separator = find_separator(path) if path.suffix == ".csv" else ","
        except LabError:
            continue  # the reader reports it
        again = "it was saved by another program: check the scores, or take the release's file"
        if separator != ",":
            what = f"{file} is separated by {separator!r}, in the release by ','"
            found.append(Finding("warning", what, (), again))
        if extra := [repr(name) for name in names if name not in columns]:
            what = f"{file} has {len(extra)} columns that the release has not; they are not used"
            found.append(Finding("warning", what, tuple(extra), again))
    return found


def _misplaced_labels(spec: DatasetSpec, root: Path) -> list[Finding]:
    """Label files found a few folders below or above where they are looked for."""
    above = [folder / file for folder in list(root.parents)[:DEPTH] for file in spec.label_files]
    candidates = [*walk(root), *above]
    for file in spec.label_files:
        parts = PurePosixPath(file).parts
        for path in candidates:
            right = path.parts[-len(parts) :] == parts and path != root.joinpath(*parts)
            if right and path.is_file():
                place = path.parents[len(parts) - 1]
                what = f"wrong folder level: {file} is in {place}, not in {root}"
                return [Finding("error", what, (), f"name {place} as root, or move its content")]
    return []


def _check_places(table: pd.DataFrame, unlabelled: list[str], root: Path) -> list[Finding]:
    """Images whose case or folder differs from the labels."""
    found = []
    if outside := outside_of(table, root):
        what = f"{len(outside)} photographs lie outside {root}"
        found.append(Finding("error", what, tuple(outside), "move them into it"))
    other = [
        f"{name} is {path.name}"
        for name, path in zip(table["name"], table["path"], strict=True)
        if path.name != PurePosixPath(name).name
    ]
    if other:
        what = f"{len(other)} names differ in case from their files; they are used nevertheless"
        found.append(Finding("warning", what, tuple(other)))
    if unlabelled:
        what = f"{len(unlabelled)} photographs have no label; they are not used"
        found.append(Finding("info", what, tuple(unlabelled)))
    missing = {
        name.lower()
        for name, path in zip(table["name"], table["path"], strict=True)
        if not path.is_file()
    }
    return found + (_misplaced_photographs(missing, root) if missing else [])


def _misplaced_photographs(missing: set[str], root: Path) -> list[Finding]:
    """Folders under ``root`` that contain missing images; ``missing`` in lower case."""
    folders = {PurePosixPath(name).name: str(PurePosixPath(name).parent) for name in missing}
    elsewhere: Counter = Counter()
    for path in walk(root):
        if expected := folders.get(path.name.lower()):
            elsewhere[path.parent.relative_to(root).as_posix(), expected] += 1
    return [
        Finding(
            "error",
            f"wrong folder level: {n} missing photographs are in {there}/, expected in {expected}/",
            (),
            "move them there",
        )
        for (there, expected), n in elsewhere.items()
        if there.lower() != expected
    ]


def _check_photographs(table: pd.DataFrame, root: Path, skip: bool) -> list[Finding]:
    """Missing and unreadable files, warnings if ``skip``, and the disk space of the others."""
    found = []
    without = skip and (table["error"] == "").any()
    severity, then = ("warning", "left out") if without else ("error", "fetch them again")
    there = table["path"].map(Path.is_file).astype(bool)
    n = len(table)
    if not there.all():
        what = f"{n - there.sum()} of {n} photographs are missing"
        found.append(Finding(severity, what, tuple(table["name"][~there]), then))
    errors = table["error"][there & (table["error"] != "")]
    if len(errors):
        names = tuple(errors.str.replace(f"{root}{os.sep}", "", regex=False))
        what = f"{len(errors)} of {n} photographs cannot be read"
        found.append(Finding(severity, what, names, then))
    megabytes = sum(path.stat().st_size for path in table["path"][there]) / 1e6
    found.append(Finding("info", f"{there.sum():,} photographs take {megabytes:,.1f} MB of disk"))
    return found
