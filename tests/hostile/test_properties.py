"""Properties that hold for whatever hypothesis thinks of: tables, splits, parameters, names."""

import csv
import io
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpiqa_lab.core.config import Configuration, configuration, option
from dpiqa_lab.core.errors import LabError, listing, shortened, unknown
from dpiqa_lab.core.runs import check_name
from dpiqa_lab.datasets.official_labels_and_splits import pick, read_table
from dpiqa_lab.datasets.specs import SPECS
from dpiqa_lab.datasets.split_schemes import SPLITS, assign_split, folds
from dpiqa_lab.datasets.validation_checks import check_labels, numbers, possible_name

relaxed = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# What a CSV cell may hold: any text that UTF-8 can, without carriage returns, which are line ends.
cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=12)
lines = st.lists(
    st.tuples(cells.filter(bool), st.floats(0, 100, allow_subnormal=False)), min_size=1, max_size=12
)


def _outcome(call):
    """What it gives, and what a LabError says."""
    try:
        return call(), None
    except LabError as error:
        return None, str(error)


def _csv(rows, separator):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows([("name", "mos"), *rows])
    return text.getvalue()


@relaxed
@given(rows=lines, separator=st.sampled_from(",;\t|"), mark=st.booleans())
def test_a_table_is_read_as_it_was_written(tmp_path, rows, separator, mark):
    path = tmp_path / "t.csv"
    path.write_text(_csv(rows, separator), encoding="utf-8-sig" if mark else "utf-8", newline="")
    table = pick(read_table(path), path, name="name", mos_raw="mos")
    assert list(table["name"]) == [name for name, _ in rows]
    assert list(numbers(table["mos_raw"])) == [score for _, score in rows]
    expected, line = [], 2
    for name, _ in rows:
        expected.append(f"t.csv row {line}")
        line += 1 + name.count("\n")
    assert list(table["where"]) == expected


@relaxed
@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_table_or_named(tmp_path, content):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    _, said = _outcome(lambda: read_table(path))
    assert said is None or (str(path) in said and len(said.splitlines()) < 5)


@relaxed
@given(
    scores=st.lists(
        st.one_of(cells, st.floats(allow_subnormal=False).map(str)), min_size=1, max_size=9
    )
)
def test_every_score_passes_or_its_row_is_named(scores):
    where = [f"row {i}" for i in range(len(scores))]
    names = [f"{i}.png" for i in range(len(scores))]
    table = pd.DataFrame({"name": names, "mos_raw": scores, "where": where})
    found = check_labels(table, SPECS["folder"], (0.0, 100.0))
    told = " ".join(name for finding in found for name in finding.names)
    for place, score in zip(where, numbers(table["mos_raw"]), strict=True):
        assert (f"{place}:" in told) == (not 0 <= score <= 100)


@pytest.mark.medium
@relaxed
@given(
    groups=st.lists(st.integers(0, 15), min_size=12, max_size=80).filter(lambda g: len({*g}) > 3),
    seed=st.integers(0, 2**32),
)
def test_a_split_takes_each_row_once_and_parts_no_group(groups, seed):
    table = pd.DataFrame({"name": range(len(groups)), "group": groups}).astype(str)
    parts, said = assign_split(table, "random", seed)
    assert parts.isin(SPLITS).all()
    assert set(parts) == set(SPLITS)
    assert (parts.groupby(table["group"]).nunique() == 1).all()
    again, _ = assign_split(table, f"random-{seed}")
    assert parts.equals(again)
    assert f"seed {seed}" in said
    tested = pd.concat([(fold == "test") for fold in folds(table, 3, seed)], axis=1)
    assert (tested.sum(axis=1) == 1).all()


@configuration
class Config(Configuration):
    """Parameters of a test."""

    steps: int | None = option(None, "steps", low=1, high=100)
    rate: float = option(0.1, "rate", low=0.0)
    mode: str = option("a", "mode", ("a", "b"))
    flag: bool = option(False, "flag")
    layers: tuple[int, ...] = option((1,), "layers", low=0)


anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_subnormal=False),
        st.text(max_size=20),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner)),
    max_leaves=4,
)
names = st.sampled_from([*Config.__dataclass_fields__, "stepz"]) | st.text(max_size=20)


@pytest.mark.medium
@relaxed
@given(values=st.dictionaries(names, anything, max_size=5))
def test_parameters_are_of_their_types_or_all_named(values):
    made, said = _outcome(lambda: Config(**values))
    bad = [name for name in values if _outcome(lambda n=name: Config(**{n: values[n]}))[1]]
    assert (0 if said is None else len(said.splitlines())) == len(bad)
    if bad:
        return
    assert made.steps is None or (type(made.steps) is int and 1 <= made.steps <= 100)
    assert type(made.rate) is float
    assert 0 <= made.rate < float("inf")
    assert made.mode in ("a", "b")
    assert type(made.flag) is bool
    assert all(type(layer) is int and layer >= 0 for layer in made.layers)


@relaxed
@given(name=st.text(max_size=200))
def test_a_run_name_that_passes_is_a_folder_of_its_own(tmp_path, name):
    if _outcome(lambda: check_name(name))[1]:
        return
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    assert folder.resolve().parent == tmp_path.resolve()
    assert folder.name == name
    folder.rmdir()


@relaxed
@given(name=st.text(max_size=400))
def test_a_possible_name_can_be_looked_for(tmp_path, name):
    if possible_name(name):
        assert Path(tmp_path, name).is_file() in (True, False)


@relaxed
@given(items=st.lists(st.text(max_size=900), max_size=30))
def test_messages_are_plain_and_of_one_screen(items):
    said = str(LabError(f"bad:\n{listing(items)}"))
    assert len(said.splitlines()) == 1 + min(len(items), 11)
    assert all(line.isprintable() or line.strip() for line in said.splitlines())
    assert "\x1b" not in said
    assert max(map(len, said.splitlines())) < 320 * 6
    said.encode("utf-8")
    with pytest.raises(LabError, match="unknown thing"):
        raise unknown("thing", "x" * 10_000, items)
    assert len(shortened("x" * 10_000)) < 310
