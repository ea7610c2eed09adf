"""Wherever scores go, what is with them says how they are mapped back, direction included."""

import json

import onnxruntime
import pytest

import dpiqa_lab as lab
from dpiqa_lab.__main__ import main
from dpiqa_lab.datasets.scale import UNKNOWN_SCALE, Scale
from dpiqa_lab.evaluation.scorers import ModelScorer
from tests.conftest import photographs, small_student

pytestmark = pytest.mark.medium

SCALES = [
    ({"mos_range": [0, 100], "lower_better": True}, "100 - score * 100"),
    ({"mos_range": [1, 5], "lower_better": False}, "1 + score * 4"),
    ({"mos_range": [1, 5]}, None),  # as early versions shipped a student
    ({}, None),
]


@pytest.fixture(params=SCALES, ids=["DMOS", "MOS", "no direction", "no scale"])
def known(request, tmp_path):
    """A student's folder, its scale's parameters and the formula back."""
    scale, formula = request.param
    photographs(tmp_path / "few", 2)
    small_student(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dataset": "mine"} | scale))
    return tmp_path, scale, formula


def _recorded(record, scale, formula):
    assert record["mos_range"] == scale.get("mos_range")
    assert record["lower_better"] == scale.get("lower_better")
    assert record["raw_mos"] == formula
    if formula:
        better = "lower is better" if scale["lower_better"] else "higher is better"
        assert f"{better}, MOS = {formula}" in record["scale"]
    elif scale:
        assert "cannot be mapped back" in record["scale"]


def test_files_of_scores_record_it_and_the_terminal_shows_it(known, capsys):
    root, scale, formula = known
    words = ["score", str(root / "few"), "--model", str(root / "model"), "--device", "cpu"]
    for out, record in (("s.csv", "s.json"), ("parts", "parts/_manifest.json")):
        assert main([*words, "--out", str(root / out)]) == 0
        written = json.loads((root / record).read_text())
        _recorded(written, scale, formula)
        said = capsys.readouterr().err
        assert (written["scale"] or "scored") in said
        assert ("on the scale of mine: 0 is its worst, 1 its best" in said) == bool(scale)


def test_an_exported_student_records_it(known):
    root, scale, formula = known
    path = lab.scoring.export_onnx(root / "model", root / "s.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    record = dict(UNKNOWN_SCALE)
    for key in record.keys() & told.keys():
        text = key in ("scale", "raw_mos")
        record[key] = told[key] if text else json.loads(told[key].lower())
    _recorded(record, scale, formula)


def test_the_gallery_shows_it(known):
    root, scale, _ = known
    lab.viz.write_gallery(
        lab.score_folder(root / "few", root / "model", device="cpu"), path=root / "g.html"
    )
    page = (root / "g.html").read_text(encoding="utf-8")
    assert ("<p>Scores on the scale of mine: 0 is its worst, 1 its best" in page) == bool(scale)


def test_an_evaluation_notes_scales_that_differ_in_direction_alone(known, small_folder):
    root, scale, _ = known
    run = lab.find_run(root / "model")
    run.config |= {"dataset": "folder", "data_root": str(small_folder)}
    judge = ModelScorer("mine", lambda: None, run)
    turned = not scale.get("lower_better", False)
    ends = tuple(scale.get("mos_range", (0, 100)))
    dataset = lab.load_dataset("folder", small_folder, mos_range=(0, 100))
    manifest = dataset.manifest
    object.__setattr__(manifest, "scale", Scale(*ends, turned, manifest.scale.of))
    differs = "lower_better" in scale
    assert judge.scale(dataset) == ("other" if differs else "same")
    note = " ".join(judge.notes(dataset, dataset))
    assert (f"({'higher' if turned else 'lower'} is better)" in note) == differs
    assert (f"({'lower' if turned else 'higher'} is better)" in note) == differs
