"""What tells one run from another, in words; and that no run is ever overwritten."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpiqa_lab.core.device import choose_compute
from dpiqa_lab.core.errors import LabError
from dpiqa_lab.core.identity import Identity, Inputs, files_input
from dpiqa_lab.core.runs import find_run, open_run

CPU = choose_compute("cpu", "float32")
DATA = pd.DataFrame(
    {
        "name": [f"p{i}.png" for i in range(8)],
        "sha256": [f"{i:064x}" for i in range(8)],
        "mos": np.linspace(0, 1, 8),
        "split": ["train"] * 4 + ["val"] * 2 + ["test"] * 2,
        "group": [None, "a", "a", None, "b", "b", None, None],
    }
)
MODELS = {"unet": {"source": "tiny", "revision": None, "sha256": "0f" * 32}}


def _identity(data=DATA, models=MODELS, **parameters):
    return Identity({"epochs": 3, "timesteps": (1, 5), **parameters}, Inputs(data, models), "Small")


def _make(root, identity, status="completed", name="run", rename=False):
    with open_run(name, identity, CPU, rename, root) as run:
        if run.reused():
            return run
        run.write_table("result", pd.DataFrame({"a": [1]}))
        if status == "completed":
            run.complete()
        elif status == "failed":
            raise LabError("a failure")
    return run


def _bytes(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _edited(column, position, value):
    table = DATA.copy()
    table.loc[position, column] = value
    return table


CHANGES = {
    "a score": (_edited("mos", 2, 0.5), r"1 of 8 scores differ \(p2\.png\)"),
    "the last digit of a score": (_edited("mos", 3, np.nextafter(3 / 7, 1)), "1 of 8 scores"),
    "a pixel": (_edited("sha256", 1, "ff"), r"1 of 8 photographs have changed content \(p1"),
    "rows gone": (DATA.iloc[:5], r"3 photographs removed \(p5\.png, p6\.png, p7\.png\)"),
    "rows new": (pd.concat([DATA, DATA.tail(1).assign(name="q.png")]), r"1 photographs added \(q"),
    "splits": (_edited("split", [4, 6], ["test", "val"]), "test and val changed: 2 photographs"),
    "splits of three": (
        _edited("split", [0, 4, 6], ["val", "test", "train"]),
        "test, train and val changed: 3 photographs",
    ),
    "a group": (_edited("group", 0, "a"), r"1 photographs are in other groups \(p0\.png\)"),
    "the order": (DATA.iloc[::-1], "in another order"),
    "no photographs": (None, "the photographs differ"),
}


@pytest.mark.parametrize(("data", "words"), CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("status", ["completed", "interrupted"])
def test_other_data_is_refused_in_words_and_touches_nothing(tmp_path, data, words, status):
    run = _make(tmp_path, _identity(), status)
    before = _bytes(run.path)
    with pytest.raises(LabError, match=words):
        _make(tmp_path, _identity(data))
    assert _bytes(run.path) == before
    assert _make(tmp_path, _identity()).state == "completed"


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        (_identity(epochs=4), "epochs: 3 in the run, 4 requested"),
        (_identity(rate=0.1), "rate: absent in the run, 0.1 requested"),
        (_identity(models={}), "unet: only in the run"),
        (
            _identity(models={"unet": {**MODELS["unet"], "sha256": "1e" * 32}}),
            r"unet differs \(content changed\)",
        ),
        (Identity({"epochs": 3, "timesteps": (1, 5)}, Inputs(DATA, MODELS), "Large"), "by a Large"),
    ],
)
def test_other_parameters_and_models_are_named(tmp_path, identity, words):
    _make(tmp_path, _identity())
    with pytest.raises(LabError, match=words):
        _make(tmp_path, identity)


def test_another_version_and_a_run_without_a_record_are_refused(tmp_path):
    run = _make(tmp_path, _identity())
    later = _identity()
    later.record["lab"] = "99.0"
    with pytest.raises(LabError, match=r"made by version .* of the lab, now 99\.0"):
        _make(tmp_path, later)
    (run.path / "identity.json").unlink()
    with pytest.raises(LabError, match="made by an earlier version"):
        _make(tmp_path, _identity())


def test_a_made_up_name_gives_way_to_one_of_the_identity_s_own(tmp_path, capsys):
    first = _make(tmp_path, _identity())
    before = _bytes(first.path)
    other = _edited("mos", 2, 0.5)
    second = _make(tmp_path, _identity(other), rename=True)
    assert second.name.startswith("run-")
    assert "1 of 8 scores differ" in capsys.readouterr().out
    assert _bytes(first.path) == before
    again = _make(tmp_path, _identity(other), rename=True)
    assert (again.path, again.state) == (second.path, "completed")
    assert _make(tmp_path, _identity(), rename=True).path == first.path


def test_a_failure_before_anything_was_computed_gives_way_and_a_later_one_does_not(tmp_path):
    with (
        pytest.raises(LabError, match="at once"),
        open_run("run", _identity(), CPU, False, tmp_path),
    ):
        raise LabError("at once")
    assert find_run("run", tmp_path).summary()["status"] == "failed"
    with pytest.raises(LabError, match="a failure"):
        _make(tmp_path, _identity(epochs=4), "failed")
    with pytest.raises(LabError, match="epochs: 4 in the run, 3 requested"):
        _make(tmp_path, _identity())


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), min_size=1)
scores = st.floats(0, 1, allow_subnormal=False)  # a training lets torch round these to 0
rows = st.lists(
    st.tuples(names, scores, st.sampled_from(["train", "val", "test", ""])),
    max_size=6, unique_by=lambda row: row[0],
)  # fmt: skip


@pytest.mark.medium
@settings(max_examples=60, deadline=None)
@given(rows=rows)
def test_an_identity_is_read_back_as_it_was_written(tmp_path_factory, rows):
    data = pd.DataFrame(rows, columns=["name", "mos", "split"]).assign(sha256="ab")
    folder = tmp_path_factory.mktemp("identity")
    Identity({}, Inputs(data)).write(folder)
    assert Identity({}, Inputs(data)).differences(folder) == []
    if len(rows):
        moved = data.assign(mos=data["mos"] + [1.0, *[0.0] * (len(rows) - 1)])
        assert f"1 of {len(rows)} scores" in Identity({}, Inputs(moved)).differences(folder)[0]


def test_a_folder_s_hash_is_that_of_its_files_wherever_it_lies(tmp_path):
    for place in ("a/x", "b/x"):
        (tmp_path / place / "deep").mkdir(parents=True)
        (tmp_path / place / "deep" / "w.bin").write_bytes(b"1")
    one, two = (files_input(tmp_path / place) for place in ("a/x", "b/x"))
    assert one == two
    (tmp_path / "b/x/deep/w.bin").write_bytes(b"2")
    assert files_input(tmp_path / "b/x") != one


def test_a_runs_files_are_listed_with_their_sizes(tmp_path):
    run = _make(tmp_path, _identity(), "interrupted")
    run.figures.mkdir()
    (run.figures / "a.html").write_bytes(b"x" * 1_230_000)
    (run.path / ".holder").write_text("1")
    sizes = run.files()["MB"]
    assert sizes["figures/a.html"] == 1.23
    assert sizes["result.csv"] == 0
    assert {".holder", "figures"}.isdisjoint(sizes.index)
    assert list(sizes.index) == sorted(sizes.index)
