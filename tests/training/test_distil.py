"""Distillation: its terms by hand, what is computed once, and that a resumed run ends the same."""

import gc
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from safetensors.torch import load_file, save_file

import dpiqa_lab as lab
from dpiqa_lab.core.cache import cache_table
from dpiqa_lab.core.device import choose_compute
from dpiqa_lab.core.runs import find_run
from dpiqa_lab.datasets.image_set import ImageSet, unlabelled_photographs
from dpiqa_lab.datasets.image_statistics import STATISTICS
from dpiqa_lab.models.image_scorer import ModelOutput
from dpiqa_lab.models.teacher import Teacher
from dpiqa_lab.ridge import ALPHAS
from dpiqa_lab.training import statistics_targets as statistics_module
from dpiqa_lab.training import student_run, teacher_outputs
from dpiqa_lab.training.ema import ModelEma
from dpiqa_lab.training.losses import distillation_loss
from dpiqa_lab.training.scored_run import schedule_of
from dpiqa_lab.training.statistics_targets import statistics_targets
from dpiqa_lab.training.student_dataset import StudentDataset, crop_maps
from tests.conftest import photographs
from tests.support.configs import QUICK, STUDENT

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("distil") / "photos"
    photographs(root, 30).to_csv(root / "scores.csv", index=False)
    return root


@pytest.fixture(scope="module")
def teacher(root):
    options = {"max_steps": 2, "random_weights": True, "run_name": "teacher"}
    values = {**QUICK, **options, "precision": "float32", "data_root": str(root)}
    return lab.train_teacher(lab.TrainConfig.from_parameters(values))


def _config(root, **options):
    return lab.DistillConfig.from_parameters({**STUDENT, "data_root": str(root), **options})


def _output(score, value):
    return ModelOutput(torch.tensor(score), torch.full((len(score), 8, 64, 64), value))


def test_the_terms_by_hand():
    student, teacher = _output([0.5, 0.9], 1.0), _output([0.2, 0.5], 1.5)
    mos = torch.tensor([0.4, 0.6])
    # Squares of 0.1 and 0.3; of 0.3 and 0.4; of 0.5 at every place of the map.
    expected = {(1, 0, 0): 0.05, (0, 1, 0): 0.125, (0, 0, 1): 0.25, (1, 2, 3): 1.05}
    for weights, loss in expected.items():
        assert distillation_loss(student, mos, teacher, *weights).item() == pytest.approx(loss)
    assert distillation_loss(student, mos, None, 1, 0, 0).item() == pytest.approx(0.05)
    published = torch.nn.functional.mse_loss
    assert distillation_loss(student, mos, teacher, 1, 0, 1) == pytest.approx(
        (published(student.score, mos) + published(student.feature_map, teacher.feature_map)).item()
    )


def test_a_photograph_without_mos_has_the_teacher_s_terms_alone():
    score = torch.tensor([0.5, 0.9], requires_grad=True)
    feature_map = torch.ones(2, 8, 64, 64, requires_grad=True)
    student, teacher = ModelOutput(score, feature_map), _output([0.2, 0.5], 1.5)
    mos = torch.tensor([0.4, float("nan")])
    loss = distillation_loss(student, mos, teacher, 1, 0, 1)
    assert loss.item() == pytest.approx((0.01 + 2 * 0.25) / 2)
    loss.backward()
    assert score.grad.tolist() == pytest.approx([0.1, 0.0])  # 2 * 0.1 / 2, and nothing
    assert (feature_map.grad != 0).all()
    # The same whatever the batches: the mean over both is the mean of each one's loss.
    alone = [
        distillation_loss(
            ModelOutput(score[i : i + 1], feature_map[i : i + 1]), mos[i : i + 1],
            ModelOutput(*(part[i : i + 1] for part in teacher[:2])), 1, 0, 1,
        ).item()
        for i in range(2)
    ]  # fmt: skip
    assert np.mean(alone) == pytest.approx(loss.item())


def test_statistics_are_one_more_term():
    output = _output([0.5, 0.9], 1.0)._replace(statistics=torch.tensor([[1.0, 0.0], [0.5, 2.0]]))
    known = torch.tensor([[0.0, 0.0], [0.5, 0.0]])
    mos = torch.tensor([0.4, float("nan")])
    loss = distillation_loss(output, mos, None, 1, 0, 0, known, 0.1)
    assert loss.item() == pytest.approx((0.01 + 0.1 * 0.5 + 0.1 * 2.0) / 2)


def test_statistics_are_ranks_on_one_scale_and_computed_once(root, tmp_path, monkeypatch):
    table = lab.load_dataset("folder", root, mos_range=(0, 100)).table
    found = statistics_targets(ImageSet(table, 64), tmp_path)
    assert found.shape == (30, 46)
    assert found.abs().max() <= 3.0
    # The photographs' contrast falls with their number, so luma's deviation has that order.
    contrast = found[:, 36 + STATISTICS.index("luma_std")].numpy()
    order = np.argsort(table["mos"].to_numpy())
    assert np.spacing(1) < np.diff(contrast[order]).min()
    assert contrast[order][:2] == pytest.approx([-3.0, scipy.stats.norm.ppf(1 / 29)], abs=1e-5)
    monkeypatch.setattr(statistics_module, "_statistics", lambda pixels: pytest.fail("again"))
    assert torch.equal(statistics_targets(ImageSet(table, 64), tmp_path), found)


def test_statistics_need_a_head_that_tells_them(root):
    with pytest.raises(lab.LabError, match=r"statistics_weight needs .* head='pooled'"):
        _config(root, head="flat", statistics_weight=0.1)


def test_what_the_head_leaves_is_fitted_by_ridge_from_whole_photographs(root, teacher, tmp_path):
    """The correction obeys ridge's normal equation on the features of the uncorrected run."""
    names = [path.name for path in sorted(root.glob("*.png"))]
    parts = pd.DataFrame({"name": names, "split": ["train", "train", "val"] * 9 + ["test"] * 3})
    parts.to_csv(tmp_path / "split.csv", index=False)
    options = {"teacher": "teacher", "teacher_score_weight": 3.0, "map_weight": 0.0}
    options |= {"trunk": "frequency", "split_scheme": str(tmp_path / "split.csv"), "flip": True}
    photographs(tmp_path / "extra", 8, seed=5)
    options["unlabelled"] = str(tmp_path / "extra")
    plain, corrected = (
        lab.train_student(_config(root, **options, correction=on, run_name=f"correction-{on}"))
        for on in (False, True)
    )
    assert "correction" not in plain.summary()
    told = corrected.summary()["correction"]
    before, after = (run.summary()["metrics"]["val"]["srcc"] for run in (plain, corrected))
    assert told == {"srcc_before": pytest.approx(before), "srcc": pytest.approx(after)}
    assert after > before

    old, new = (load_file(r.checkpoints / "best.safetensors") for r in (plain, corrected))
    changed = {k.removeprefix("regressor.") for k in old if not torch.equal(old[k], new[k])}
    assert changed == {"correction.weight", "correction.bias", "usual", "spread"}
    usual, spread, weight, bias = (
        new[f"regressor.{name}"].double().numpy()
        for name in ("usual", "spread", "correction.weight", "correction.bias")
    )

    student, seen = lab.load_model(plain.path), []
    student.regressor.norm.register_forward_hook(lambda *call: seen.append(call[2]))
    config = _config(root, **options)
    dataset = lab.load_dataset(config.dataset, **config.dataset_options())
    table = dataset.in_split("train").table
    paths = [*table["path"], *sorted((tmp_path / "extra").glob("*.png"))]
    known = lab.load_model("teacher").score(paths)
    target = np.r_[(table["mos"] + 3 * known[: len(table)]) / 4, known[len(table) :]]
    left = target - student.score(paths)
    x = torch.cat(seen).double().numpy()
    varied = x.std(0) > 2e-3
    assert varied.sum() > 100
    assert usual[varied] == pytest.approx(x.mean(0)[varied], abs=1e-5)
    assert spread[varied] == pytest.approx(x.std(0)[varied], rel=1e-2)
    z = (x - usual) / spread
    slope = z.T @ (left - z @ weight[0] - bias)
    alpha = (slope @ weight[0]) / (weight[0] @ weight[0])
    assert slope[varied] == pytest.approx(alpha * weight[0][varied], abs=0.01 * abs(slope).max())
    assert min(abs(alpha / known - 1) for known in ALPHAS) < 0.02


def test_a_flat_head_is_neither_corrected_nor_asked_for_statistics(root):
    config = _config(root, head="flat")
    assert (config.correction, config.statistics_weight) == (False, 0.0)
    assert _config(root).correction
    with pytest.raises(lab.LabError, match="correction needs a head"):
        _config(root, head="flat", correction=True)


def test_maps_follow_the_part_that_is_shown():
    maps = torch.arange(64.0).repeat(1, 2, 64, 1) + 100 * torch.arange(64.0)[:, None]
    assert torch.allclose(crop_maps(maps, torch.tensor([[0, 0, 1, 0.0]])), maps, atol=1e-2)
    mirrored = crop_maps(maps, torch.tensor([[0, 0, 1, 1.0]]))
    assert torch.allclose(mirrored, maps.flip(3), atol=1e-2)
    # The lower right quarter: each of its 32 places becomes two, a quarter off to either side.
    quarter = crop_maps(maps, torch.tensor([[0.5, 0.5, 0.5, 0.0]]))
    assert quarter.shape == maps.shape
    assert quarter[0, 0, 1, 1:5].tolist() == pytest.approx(
        [3225 + x for x in (32.25, 32.75, 33.25, 33.75)], abs=1e-2
    )


def test_parts_and_mirrors_are_drawn_by_seed_epoch_and_place(root):
    table = lab.load_dataset("folder", root, mos_range=(0, 100)).table
    whole = ImageSet(table, 64)
    shown = StudentDataset(whole, flip=True, crop=32, seed=3)
    pixels, mos, i, place = shown[5]
    plain = StudentDataset(whole, flip=False, crop=None, seed=3)[5]
    left, top = (int(64 * value) for value in place[:2])
    expected = plain[0][:, top : top + 32, left : left + 32]
    assert torch.equal(pixels, expected.flip(2) if place[3] else expected)
    assert (mos, i, place[2]) == (plain[1], 5, 0.5)
    assert plain[3].tolist() == [0, 0, 1, 0]
    assert torch.equal(shown[5][0], pixels)
    places = torch.stack([shown[k][3] for k in range(30)])
    assert 5 < places[:, 3].sum() < 25
    assert len(places[:, :2].unique(dim=0)) > 25
    shown.epoch = 1
    assert not torch.equal(torch.stack([shown[k][3] for k in range(30)]), places)


def test_a_student_learns_from_a_teacher_that_is_gone(root, teacher, monkeypatch):
    seen = []
    build = student_run.build_student

    def watched(config):
        gc.collect()
        seen.append(sum(type(thing) is Teacher for thing in gc.get_objects()))
        return build(config)

    monkeypatch.setattr(student_run, "build_student", watched)
    run = lab.train_student(_config(root, teacher="teacher", run_name="student"))
    assert seen[-1] == 0
    summary = run.summary()
    assert summary["status"] == "completed"
    assert (summary["steps"], summary["trunk"]) == (4, "efficientnet_tiny")
    assert summary["parameters"]["trunk"] > 400_000
    assert {"n", "srcc", "plcc", "krcc", "rmse", "srcc_ci"} <= set(summary["metrics"]["test"])
    table = run.predictions()
    model = lab.load_model("student")
    assert isinstance(model, lab.Student)
    scores = model.score([root / name for name in table["name"]], device="cpu")
    assert np.allclose(scores, table["score"], atol=1e-5)
    assert lab.train_student(_config(root, teacher="teacher", run_name="student")).reused()
    assert lab.list_runs().set_index("name").loc["student", "trunk"] == "efficientnet_tiny"


def test_the_teacher_runs_once_for_all_its_students(root, teacher, monkeypatch):
    compute = choose_compute("cpu", "float32")
    table = lab.load_dataset("folder", root, mos_range=(0, 100)).in_split("train").table
    found = teacher_outputs.teacher_outputs(teacher, table, compute)
    model = lab.load_model("teacher")
    with torch.no_grad():
        image = lab.read_image(table["path"][3])
        plain = model(torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255)
    assert found.score[3].item() == pytest.approx(plain.score.item(), abs=1e-4)
    assert found.feature_map.dtype == torch.float16
    assert torch.allclose(found.feature_map[3].float(), plain.feature_map[0], atol=1e-2)
    assert "teacher" in {entry["kind"] for entry in cache_table()}

    def refuse(*_):
        raise AssertionError("the teacher was loaded again")

    monkeypatch.setattr(teacher_outputs, "load_model", refuse)
    lab.train_student(_config(root, teacher="teacher", seed=7, max_steps=2, map_weight=0.5))
    backwards = teacher_outputs.teacher_outputs(teacher, table[::-1], compute)
    assert torch.equal(backwards.score.flip(0), found.score)
    other = choose_compute("cpu", "bfloat16")
    with pytest.raises(AssertionError, match="loaded again"):
        teacher_outputs.teacher_outputs(teacher, table, other)


def test_unlabelled_photographs_join_and_known_ones_do_not(root, teacher, tmp_path, capsys):
    extra = tmp_path / "extra" / "deep"
    photographs(extra, 4, seed=1)
    (extra / "known.png").write_bytes((root / "p000.png").read_bytes())
    (extra / "twice.png").write_bytes((extra / "p001.png").read_bytes())
    known = set(lab.load_dataset("folder", root, mos_range=(0, 100)).table["hash"])
    table = unlabelled_photographs(str(extra.parent), "error", known)
    assert table["name"].tolist() == [f"deep/p00{i}.png" for i in range(4)]
    assert table["mos"].isna().all()
    options = {"teacher": "teacher", "unlabelled": str(extra.parent), "max_steps": 4}
    run = lab.train_student(_config(root, **options, batch_size=8, flip=True, crop=48))
    summary = run.summary()
    assert summary["photographs"] == 21 + 4
    assert any("4 photographs without a score" in note for note in summary["notes"])
    assert np.isfinite(np.concatenate(run.history()["losses"])).all()
    (extra / "broken.png").write_bytes(b"no picture")
    with pytest.raises(lab.LabError, match=r"(?s)unlabelled: 1 of 7.*broken"):
        unlabelled_photographs(str(extra.parent), "error", known)
    assert len(unlabelled_photographs(str(extra.parent), "skip", known)) == 4
    with pytest.raises(lab.LabError, match="no photograph that is not in the dataset"):
        unlabelled_photographs(str(root), "error", known)


def test_no_photograph_of_any_part_of_the_dataset_joins_as_unlabelled(root, tmp_path):
    extra = tmp_path / "extra"
    photographs(extra, 1, seed=1)
    for path in root.glob("*.png"):
        (extra / f"own-{path.name}").write_bytes(path.read_bytes())
    dataset = lab.load_dataset("folder", root, mos_range=(0, 100), image_size=64)
    asked = SimpleNamespace(unlabelled=str(extra), on_bad_image="error", image_size=64)
    found, _ = student_run._photographs(asked, dataset)
    train = dataset.in_split("train").table["name"].tolist()
    assert found.table["name"].tolist() == [*train, "p000.png"]
    assert found.table["mos"].isna().tolist() == [*[False] * len(train), True]


def test_averaging_by_hand():
    network = lab.Student("efficientnet_tiny", image_size=64, width=4, head="pooled")
    averaged = ModelEma(network, 0.5)
    name = "regressor.fc2.bias"
    first = network.state_dict()[name].item()
    values = [first]
    for n, new in enumerate((1.0, 2.0, 3.0), 1):
        with torch.no_grad():
            network.regressor.fc2.bias.fill_(new)
        averaged.update()
        decay = min(0.5, (1 + n) / (10 + n))
        values.append(decay * values[-1] + (1 - decay) * new)
    assert averaged.average.state_dict()[name].item() == pytest.approx(values[-1])
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        in_use = averaged.eval()(images).score
        assert torch.equal(in_use, averaged.average(images).score)
        assert not torch.equal(in_use, network(images).score)
    assert not any(p.requires_grad for p in averaged.average.parameters())


def test_a_teacher_s_scores_on_another_scale_are_told_of(root, teacher, capsys):
    taught = {"teacher": "teacher", "teacher_score_weight": 1.0}
    (note,) = student_run._other_scale(teacher, _config(root, **taught, mos_range="0,200"))
    assert note in capsys.readouterr().out
    assert "scale of photos, 0 to 100 (higher is better); MOS on that of photos, 0 to 200" in note
    assert student_run._other_scale(teacher, _config(root, **taught)) == []
    only_maps = _config(root, teacher="teacher", mos_range="0,200")
    assert student_run._other_scale(teacher, only_maps) == []


def test_a_training_starts_where_another_ended(root, tmp_path):
    first = lab.train_student(_config(root, run_name="first", max_steps=2))
    options = {"max_steps": 1, "learning_rate": 0.0}
    run = lab.train_student(_config(root, start_from="first", seed=5, **options))
    best, last = (
        load_file(r.checkpoints / f"{w}.safetensors") for r, w in ((first, "best"), (run, "last"))
    )
    assert torch.equal(best["regressor.fc1.weight"], last["regressor.fc1.weight"])
    best.pop("to_map.bias")
    save_file(best, tmp_path / "some.safetensors")
    start = str(tmp_path / "some.safetensors")
    with pytest.raises(lab.LabError, match=r"(?s)start_from .*some.*missing to_map\.bias"):
        lab.train_student(_config(root, start_from=start, **options))
    with pytest.raises(lab.LabError, match=r"regressor\.fc1\.weight is \(8, 1040\)"):
        lab.train_student(_config(root, start_from="first", student_width=9, **options))


def test_labels_alone_need_no_teacher_and_nothing_is_called_that(root, teacher):
    run = find_run("first")
    assert (run.config["teacher"], run.config["map_weight"]) == (None, 0.0)
    assert _config(root, teacher="teacher").map_weight == 1.0
    # Another split than the teacher's: what it knows of the test part is said.
    split = pd.read_csv(teacher.path / "data.csv")[["name", "split"]]
    parts = split["split"].map({"train": "test", "test": "train", "val": "val"})
    split.assign(split=parts).to_csv(root.parent / "split.csv", index=False)
    options = {"teacher": "teacher", "split_scheme": str(root.parent / "split.csv"), "max_steps": 1}
    notes = lab.train_student(_config(root, **options)).summary()["notes"]
    assert any("TEACHER WAS TRAINED on 21" in note for note in notes)


def test_defaults_follow_the_trunk():
    def config(**options):
        return lab.DistillConfig.from_parameters({"device": "cpu", **options})

    published = config(trunk="efficientnet_b7", dataset="clive", trunk_weights="hub")
    schedule = schedule_of(published, 100)
    assert (published.head, published.student_width) == ("flat", 512)
    assert (published.batch_size, published.epochs, published.normalise) == (24, 30, True)
    rates = [schedule.rate(epoch * 100) for epoch in (0, 9, 10, 25)]
    assert rates == pytest.approx([1e-4, 1e-4, 2e-5, 4e-6])
    small = config()
    assert (small.trunk, small.head, small.normalise) == ("efficientnet_tiny", "pooled", False)
    assert schedule_of(small, 100).rate(2999) < 1e-6
    milestones = {"koniq": (5,), "livefb": (4,), "spaq": (6,)}
    for dataset, expected in milestones.items():
        found = config(trunk="efficientnet_b7", dataset=dataset).lr_milestones
        assert found == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trunk": "efficientnet_b9"}, r"unknown trunk 'efficientnet_b9'\. Did you mean"),
        ({"map_weight": 1.0}, "need a teacher"),
        ({"unlabelled": "photos"}, "need a teacher"),
        ({"teacher": "teacher", "unlabelled": "x", "map_weight": 0.0}, "only label"),
        ({"score_weight": 0.0}, "nothing teaches the score"),
        ({"teacher": "teacherr"}, "Did you mean 'teacher'"),
        ({"crop": 128}, "crop must be at most image_size, 64"),
        ({"ema": 1.0}, "ema must be below 1"),
        ({"head": "round"}, "unknown head"),
    ],
)
def test_impossible_configs(root, teacher, values, message):
    with pytest.raises(lab.LabError, match=message):
        _config(root, **values)


def test_a_shipped_student_scores_as_the_run_s_but_for_half_precision(root, tmp_path):
    run = lab.train_student(_config(root, run_name="to-ship", statistics_weight=0.1))
    folder = lab.training.ship_student(run.path, tmp_path / "student")
    assert str(root) not in (folder / "config.json").read_text()
    files = [p for p in folder.rglob("*") if p.is_file()]
    whole = run.checkpoints / "best.safetensors"
    assert len(files) == 2
    assert {"mos_range", "lower_better"} <= set(json.loads((folder / "config.json").read_text()))
    assert (folder / "checkpoints" / "best.safetensors").stat().st_size < 0.6 * whole.stat().st_size
    paths = sorted(root.glob("*.png"))
    scores, expected = (lab.load_model(p).score(paths, device="cpu") for p in (folder, run.path))
    assert scores == pytest.approx(expected, rel=0.05)
    assert not np.array_equal(scores, expected)


def test_a_teacher_is_not_shipped_as_a_student(teacher, tmp_path):
    with pytest.raises(lab.LabError, match="run teacher trained no student"):
        lab.training.ship_student("teacher", tmp_path / "student")
