"""The comparison of students: its numbers by hand, and which trainings it asks for."""

import shutil

import numpy as np
import pandas as pd
import pytest

import dpiqa_lab as lab
from dpiqa_lab.core.files import write_json
from dpiqa_lab.core.paths import runs_dir
from dpiqa_lab.diffusion.presets import find_preset
from dpiqa_lab.experiments.distillation_ablation import distillation_inputs
from tests.conftest import photographs

MOS = np.linspace(0, 1, 40)


def _table():
    """A teacher that is right, a student that is its mirror image, and one that follows it."""
    shared = {"name": [f"p{i}" for i in range(40)], "mos": MOS, "teacher": MOS**3}
    students = {"labels": -MOS, "map": 2 + MOS}
    tables = [
        pd.DataFrame({"variant": variant, "student": s, **shared})
        for variant, s in students.items()
    ]
    return pd.concat(tables, ignore_index=True)


def test_arms_against_known_answers():
    table = lab.experiments.compare_variants(_table()).set_index("variant")
    assert list(table.index) == ["teacher", "labels", "map"]
    assert table["srcc"].tolist() == pytest.approx([1, -1, 1])
    assert table["gain"].tolist() == pytest.approx([2, 0, 2])
    assert table["gain_low"].tolist() == pytest.approx([2, 0, 2])
    assert np.isnan(table.loc["teacher", "with_teacher"])
    assert table["with_teacher"].tolist()[1:] == pytest.approx([-1, 1])
    assert table.loc["map", "rmse"] == pytest.approx(2)
    assert table["n"].tolist() == [40] * 3


def test_arms_with_other_photographs_are_refused():
    table = _table()
    table.loc[79, "name"] = "other"
    with pytest.raises(lab.LabError, match="different photographs"):
        lab.experiments.compare_variants(table)


def test_most_different_is_by_place_not_by_score():
    rows = pd.DataFrame({"name": list("abcd"), "teacher": [1, 2, 3, 4], "student": [0, 90, 95, 1]})
    found = lab.experiments.most_different(rows, 2)
    assert found["name"].tolist() == ["d", "b"]  # 4 and 2; 2 and 3, before c by its order
    assert found["teacher_rank"].tolist() == [4, 2]
    assert found["student_rank"].tolist() == [2, 3]


@pytest.fixture
def teacher():
    folder = runs_dir() / "some-teacher"
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints" / "best.safetensors").write_bytes(b"")
    write_json(folder / "config.json", {"backbone": "tiny"})
    write_json(folder / "summary.json", {"status": "completed"})
    return folder.name


def _config(**options):
    return lab.experiments.DistillationConfig.from_parameters({"device": "cpu", **options})


def test_each_arm_hears_what_it_is_named_after(teacher, tmp_path):
    options = {"teacher": teacher, "teacher_score_weight": 0.5, "map_weight": 3.0}
    config = _config(**options, unlabelled=str(tmp_path), run_name="compared")
    students = config.students(teacher)
    weights = {
        variant: (s.score_weight, s.teacher_score_weight, s.map_weight)
        for variant, s in students.items()
    }
    assert weights == {
        "labels": (1, 0, 0),
        "score": (1, 0.5, 0), "score + unlabelled": (1, 0.5, 0),
        "map": (1, 0, 3), "map + unlabelled": (1, 0, 3),
        "both": (1, 0.5, 3), "both + unlabelled": (1, 0.5, 3),
    }  # fmt: skip
    assert students["labels"].teacher is None
    assert students["both"].unlabelled is None
    assert students["both + unlabelled"].unlabelled == str(tmp_path)
    assert len({s.run_name for s in students.values()}) == 7
    plain = _config(teacher=teacher, variants="labels,map")
    assert list(plain.students(teacher)) == ["labels", "map"]
    assert plain.map_weight == 1.0


def test_a_teacher_made_here_sees_the_same_photographs():
    config = _config(
        image_size=128, seed=3, teacher_steps=7, split_scheme="random-2", run_name="mine"
    )
    own = config.own_teacher()
    assert (own.image_size, own.seed, own.max_steps, own.split_scheme) == (128, 3, 7, "random-2")
    assert (own.run_name, own.backbone, own.batch_size) == ("mine-teacher", "tiny", 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variants": "labels,maps"}, "unknown variants 'maps'. Did you mean 'map'"),
        ({"variants": ""}, "variants is empty"),
        ({"teacher": "nobody's"}, "unknown run|no run"),
    ],
)
def test_impossible_comparisons(options, message):
    with pytest.raises(lab.LabError, match=message):
        _config(**options)


def test_an_unfinished_teacher_is_refused(teacher):
    write_json(runs_dir() / teacher / "summary.json", {"status": "running"})
    with pytest.raises(lab.LabError, match="some-teacher is not finished"):
        _config(teacher=teacher)


def test_all_parts_of_a_teacher_made_here_are_inputs(tmp_path):
    folder = shutil.copytree(find_preset("tiny").source, tmp_path / "backbone")
    photographs(tmp_path / "photos", 12).to_csv(tmp_path / "photos" / "scores.csv", index=False)
    given = {"dataset": "folder", "data_root": str(tmp_path / "photos"), "mos_range": "0,100"}
    config = _config(**given, image_size=64, labels="scores.csv", teacher_backbone=str(folder))
    before = distillation_inputs(config).models
    for part in ("unet", "vae", "text_encoder", "image_adapter"):
        path = folder / part / "config.json"
        path.write_text(path.read_text() + "\n")
        after = distillation_inputs(config).models
        assert len([role for role in before if before[role] != after[role]]) == 1
        before = after
