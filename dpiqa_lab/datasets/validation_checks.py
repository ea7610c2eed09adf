"""What may be wrong with a dataset, each thing looked for in one place.

``manifests`` stops at what makes a dataset useless; ``doctor`` tells everything.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..core.errors import LabError, listing, plain
from .specs import DatasetSpec

SEVERITIES = ("error", "warning", "info")
_SHOWN = 10  # names of a finding
_CROWDED = 0.15  # of a scale: where all scores lie within so much of it, the scale is doubted
_SCREEN = 12  # names of all findings that are told together


@dataclass(frozen=True)
class Finding:
    """One kind of thing found.

    Attributes:
        severity: "error" (the dataset cannot be used, or its results not be trusted), "warning"
            (it can, but differs from its release) or "info".
        what: a sentence, with numbers. names: photographs, rows or columns, each in words.
        advice: what to do.
    """

    severity: str
    what: str
    names: tuple[str, ...] = ()
    advice: str = ""

    def __str__(self) -> str:
        return self.told(_SHOWN)

    def told(self, limit: int) -> str:
        """The finding with ``limit`` of its names."""
        advice = f" ({self.advice})" if self.advice else ""
        names = f":\n{listing(self.names, limit)}" if self.names else ""
        return f"{plain(self.what)}{advice}{names}"


def as_frame(findings: Iterable[Finding]) -> pd.DataFrame:
    """A row a finding: severity, what, names (a tuple, all of them), advice."""
    rows = [(f.severity, f.what, f.names, f.advice) for f in findings]
    return pd.DataFrame(rows, columns=["severity", "what", "names", "advice"])


def check_labels(
    table: pd.DataFrame, spec: DatasetSpec, mos_range: tuple[float, float]
) -> list[Finding]:
    """Errors in a reader's table, whose ``mos_raw`` is as it stands in the file."""
    if not len(table):
        return [Finding("error", f"{spec.title}: the labels have no rows")]
    found = []

    def add(what: str, names: Iterable[str], advice: str) -> None:
        if names := tuple(names):
            found.append(Finding("error", f"{len(names)} {what}", names, advice))

    named = table["name"].notna()
    add("labels without a name", table["where"][~named], "mend or remove these rows")
    possible = table["name"].map(possible_name)
    impossible = table[named & ~possible]
    add(
        "names that no file can have",
        [f"{row['where']}: {row['name']!r}" for _, row in impossible.iterrows()],
        "mend or remove these rows",
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
        "mend or remove these rows; decimals need a point, not a comma",
    )
    low, high = mos_range
    outside = table[scores.notna() & ~scores.between(low, high)]
    add(
        f"scores outside {low:g} to {high:g}",
        [f"{row['where']}: {row['name']}: {float(row.mos_raw):g}" for _, row in outside.iterrows()],
        "set mos_range if the scale is another",
    )
    return found


def check_scale_used(
    scores: pd.Series, spec: DatasetSpec, mos_range: tuple[float, float]
) -> list[Finding]:
    """Scores crowded into a corner of a scale that nobody named: most likely it is another.

    Votes from 1 to 5 on the default 0 to 100 would all be called bad, with nothing refused.
    """
    low, high = mos_range
    lowest, highest = scores.min(), scores.max()
    named = spec.observed is not None or tuple(mos_range) != tuple(spec.mos_range)
    if named or not 0 < highest - lowest <= _CROWDED * (high - low):
        return []
    what = f"scores from {lowest:g} to {highest:g} on a scale from {low:g} to {high:g}"
    return [Finding("warning", what, (), "set mos_range if the scale is another, as 1,5")]


def possible_name(name: object) -> bool:
    """Whether a file can be called so: text without NUL, no part longer than 255 bytes."""
    if not isinstance(name, str) or "\0" in name:
        return False
    encoded = name.encode("utf-8", "surrogatepass")
    return len(encoded) <= 1024 and max(map(len, encoded.split(b"/"))) <= 255


def numbers(mos_raw: pd.Series) -> pd.Series:
    """Scores as float; what is no finite number as NaN."""
    values = pd.to_numeric(mos_raw, errors="coerce").astype(float)
    return values.where(values.between(-1e12, 1e12))


def check_count(n: int, spec: DatasetSpec, options: Mapping[str, object]) -> list[Finding]:
    """How many photographs there are, against the release."""
    expected = spec.expected(options)
    if expected is None or n == expected:
        return []
    if n < expected:
        return [Finding("info", f"subset: {n:,} of {expected:,}")]
    advice = "compare the label file with the release's"
    return [Finding("warning", f"{n:,} labels, the release has {expected:,}", (), advice)]


def check_leaks(table: pd.DataFrame) -> list[Finding]:
    """The same content, or the same group, in two parts: a test made too easy.

    Args:
        table: name, hash, split, and where known group.
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
                    Finding("error", f"{n} {what} stand in different parts", tuple(names), advice)
                )
    return found


def check_near_copies(table: pd.DataFrame, scenes: np.ndarray | pd.Series) -> list[Finding]:
    """Photographs of one scene, and where parts are known those of the test part seen in train.

    Files of equal content, and what the labels group, are left to ``check_leaks``.

    Args:
        table: name, hash, and where known split and group. scenes: (n,), see ``near_copies``.
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
            what += ", each scene in one part"
        seen = [rows for rows in groups if {"train", "test"} <= set(rows["split"])]
    found = [Finding("info", what, tuple(map(_alike, groups)))]
    if seen:
        easy = sum((rows["split"] == "test").sum() for rows in seen)
        of = (table["split"] == "test").sum()
        what = f"{easy:,} of {of:,} test photographs have a near copy in train"
        advice = "results on them flatter; split_scheme='random' keeps near copies in one split"
        found.append(Finding("info", what, tuple(map(_alike, seen)), advice))
    return found


def check_copies(table: pd.DataFrame) -> list[Finding]:
    """The same content under several names, within a part where parts are known."""
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
    """Raise LabError where there are errors, all of them told."""
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise LabError(f"{title}: " + "\n".join(format_findings(errors)))


def format_findings(findings: Iterable[Finding]) -> list[str]:
    """Each in words, with so many of its names that all of them fit on a screen."""
    findings = list(findings)
    named = sum(bool(finding.names) for finding in findings)
    limit = min(_SHOWN, max(2, _SCREEN // max(named, 1)))
    return [finding.told(limit) for finding in findings]


def _alike(rows: pd.DataFrame) -> str:
    names = [
        f"{row['name']} ({row['split']})" if "split" in rows else row["name"]
        for _, row in rows.head(4).iterrows()
    ]
    return " = ".join(names) + (" = …" if len(rows) > 4 else "")
