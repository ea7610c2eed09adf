"""Checks of a dataset, shared by ``manifests`` (stops at errors) and ``validation`` (lists all)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..core.errors import LabError, listing, plain
from .specs import DatasetSpec

SEVERITIES = ("error", "warning", "info")
_MAX_NAMES = 10  # of a finding
_CROWDED = 0.15  # if all scores lie within this fraction of the scale, it is doubted
_MAX_NAMES_TOTAL = 12  # of findings shown together


@dataclass(frozen=True)
class Finding:
    """A problem or fact found.

    Attributes:
        severity: "error" (the dataset or its results cannot be used), "warning" (usable, but
            different from its release) or "info".
        what: a sentence with numbers. names: images, rows or columns concerned.
        advice: what to do.
    """

    severity: str
    what: str
    names: tuple[str, ...] = ()
    advice: str = ""

    def __str__(self) -> str:
        return self.text(_MAX_NAMES)

    def text(self, limit: int) -> str:
        """The finding with at most ``limit`` names."""
        advice = f" ({self.advice})" if self.advice else ""
        names = f":\n{listing(self.names, limit)}" if self.names else ""
        return f"{plain(self.what)}{advice}{names}"


def as_frame(findings: Iterable[Finding]) -> pd.DataFrame:
    """One row per finding: severity, what, names (a tuple of all), advice."""
    rows = [(f.severity, f.what, f.names, f.advice) for f in findings]
    return pd.DataFrame(rows, columns=["severity", "what", "names", "advice"])


def check_labels(
    table: pd.DataFrame, spec: DatasetSpec, mos_range: tuple[float, float]
) -> list[Finding]:
    """Errors in a reader's table, whose ``mos_raw`` is as in the file."""
    if not len(table):
        return [Finding("error", f"{spec.title}: the labels have no rows")]
    found = []

    def add(what: str, names: Iterable[str], advice: str) -> None:
        if names := tuple(names):
            found.append(Finding("error", f"{len(names)} {what}", names, advice))

    named = table["name"].notna()
    add("labels without a name", table["where"][~named], "fix or remove these rows")
    possible = table["name"].map(possible_name)
    impossible = table[named & ~possible]
    add(
        "names that no file can have",
        [f"{row['where']}: {row['name']!r}" for _, row in impossible.iterrows()],
        "fix or remove these rows",
    )
    table = table[possible]
    if "group" in table:
        add("labels without a group", table["where"][table["group"].isna()], "give each one")
    add(
        "photographs labelled twice",
        table["name"][table["name"].duplicated()],
        "keep one row of each",
    )
    scores = numbers(table["mos_raw"])
    add(
        "scores that are no finite number",
        [
            f"{row['where']}: {row['name']}: {row.mos_raw}"
            for _, row in table[scores.isna()].iterrows()
        ],
        "fix or remove these rows; decimals need a point, not a comma",
    )
    low, high = mos_range
    outside = table[scores.notna() & ~scores.between(low, high)]
    add(
        f"scores outside {low:g} to {high:g}",
        [f"{row['where']}: {row['name']}: {float(row.mos_raw):g}" for _, row in outside.iterrows()],
        "set mos_range if the scale differs",
    )
    return found


def check_scale_used(
    scores: pd.Series, spec: DatasetSpec, mos_range: tuple[float, float]
) -> list[Finding]:
    """A warning if scores cover a small part of a default scale, such as 1 to 5 of 0 to 100."""
    low, high = mos_range
    lowest, highest = scores.min(), scores.max()
    named = spec.observed is not None or tuple(mos_range) != tuple(spec.mos_range)
    if named or not 0 < highest - lowest <= _CROWDED * (high - low):
        return []
    what = f"scores from {lowest:g} to {highest:g} on a scale from {low:g} to {high:g}"
    return [Finding("warning", what, (), "set mos_range if the scale differs, as 1,5")]


def possible_name(name: object) -> bool:
    """Whether a file can have this name: text without NUL, components of at most 255 bytes."""
    if not isinstance(name, str) or "\0" in name:
        return False
    encoded = name.encode("utf-8", "surrogatepass")
    return len(encoded) <= 1024 and max(map(len, encoded.split(b"/"))) <= 255


def numbers(mos_raw: pd.Series) -> pd.Series:
    """Scores as float; NaN if not a finite number."""
    values = pd.to_numeric(mos_raw, errors="coerce").astype(float)
    return values.where(values.between(-1e12, 1e12))


def check_count(n: int, spec: DatasetSpec, options: Mapping[str, object]) -> list[Finding]:
    """The number of images, compared with the release."""
    expected = spec.expected(options)
    if expected is None or n == expected:
        return []
    if n < expected:
        return [Finding("info", f"subset: {n:,} of {expected:,}")]
    advice = "compare the label file with the release's"
    return [Finding("warning", f"{n:,} labels, the release has {expected:,}", (), advice)]


def check_leaks(table: pd.DataFrame) -> list[Finding]:
    """The same content or group in two splits, which makes the test too easy.

    Args:
        table: name, hash, split, and if known group.
    """
    found = []
    for column, what in (("hash", "photographs with equal content"), ("group", "groups")):
        if column in table:
            shared = table.groupby(column)["split"].transform("nunique") > 1
            rows = table[shared].sort_values([column, "name"])
            same = rows.groupby(column, sort=False)
            names = [_alike(group) for _, group in same] if column == "hash" else list(same.groups)
            if names:
                n = len(rows) if column == "hash" else len(names)
                advice = "leave out all but one, or use a split that keeps them together"
                found.append(
                    Finding("error", f"{n} {what} are in different splits", tuple(names), advice)
                )
    return found


def check_near_copies(table: pd.DataFrame, scenes: np.ndarray | pd.Series) -> list[Finding]:
    """Images of one scene, and test images with a near copy in train.

    Files of equal content and groups of the labels are left to ``check_leaks``.

    Args:
        table: name, hash, and if known split and group. scenes: (n,), see ``near_duplicates``.
    """
    labels, scenes = table["group" if "group" in table else "hash"], np.asarray(scenes)
    near = labels.groupby(scenes).transform("nunique") > 1
    if not near.any():
        return []
    groups = [rows for _, rows in table[near].groupby(scenes[near])]
    what = (
        f"{len(groups):,} groups of near copies: {near.sum():,} photographs, up to "
        f"{max(map(len, groups))} of one scene"
    )
    seen = []
    if "split" in table:
        if all(rows["split"].nunique() == 1 for rows in groups):
            what += ", each scene in one split"
        seen = [rows for rows in groups if {"train", "test"} <= set(rows["split"])]
    found = [Finding("info", what, tuple(map(_alike, groups)))]
    if seen:
        easy = sum((rows["split"] == "test").sum() for rows in seen)
        total = (table["split"] == "test").sum()
        what = f"{easy:,} of {total:,} test photographs have a near copy in train"
        advice = (
            "results on them are too good; split_scheme='random' keeps near copies in one split"
        )
        found.append(Finding("info", what, tuple(map(_alike, seen)), advice))
    return found


def check_copies(table: pd.DataFrame) -> list[Finding]:
    """The same content under several names, within a split if known."""
    repeated = table[table.duplicated("hash", keep=False)]
    groups = [rows for _, rows in repeated.groupby("hash", sort=False)]
    if "split" in table:
        groups = [rows for rows in groups if rows["split"].nunique() == 1]
    if not groups:
        return []
    copies = sum(len(rows) - 1 for rows in groups)
    what = f"{copies} photographs are copies of others by content"
    return [Finding("warning", what, tuple(map(_alike, groups)), "leave out all but one of each")]


def raise_findings(findings: Iterable[Finding], title: str) -> None:
    """Raise a LabError that lists all errors, if there are any."""
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise LabError(f"{title}: " + "\n".join(format_findings(errors)))


def format_findings(findings: Iterable[Finding]) -> list[str]:
    """Texts of findings, with a number of names that fits on a screen."""
    findings = list(findings)
    named = sum(bool(finding.names) for finding in findings)
    limit = min(_MAX_NAMES, max(2, _MAX_NAMES_TOTAL // max(named, 1)))
    return [finding.text(limit) for finding in findings]


def _alike(rows: pd.DataFrame) -> str:
    names = [
        f"{row['name']} ({row['split']})" if "split" in rows else row["name"]
        for _, row in rows.head(4).iterrows()
    ]
    return " = ".join(names) + (" = …" if len(rows) > 4 else "")
