import ast

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import dpiqa_lab as lab
from dpiqa_lab.core.errors import LabError
from dpiqa_lab.core.files import write_json
from dpiqa_lab.core.paths import runs_dir
from dpiqa_lab.core.progress import tracked
from dpiqa_lab.datasets.images import read_image
from dpiqa_lab.evaluation.prediction_comparison import compare_predictions, shared_predictions
from dpiqa_lab.explorer import figures
from dpiqa_lab.explorer.app import Panel
from dpiqa_lab.explorer.background import Stopped
from dpiqa_lab.explorer.explore_config import ExploreConfig
from dpiqa_lab.explorer.explorer import Explorer
from dpiqa_lab.explorer.images import ExplorerImages
from dpiqa_lab.explorer.view import View, contact_sheet
from dpiqa_lab.explorer.widgets import follow
from dpiqa_lab.models.pmt_iqa import PmtIqa
from dpiqa_lab.probing import features as features_module
from dpiqa_lab.probing.correlations import spearman_columns
from dpiqa_lab.probing.probe import probe
from dpiqa_lab.training.checkpoints import save_weights
from dpiqa_lab.training.peer_config import PmtIqaConfig
from dpiqa_lab.training.teacher_run import build_teacher
from tests.conftest import photographs, small_student

QUICK = {
    "dataset": "folder", "mos_range": "0,100", "image_size": 64, "backbone": "tiny",
    "prompts": "none", "timesteps": "1,300", "taps": "mid_block,up_blocks.1", "device": "cpu",
    "precision": "float32",
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explored") / "photos"
    photographs(folder, 30).to_csv(folder / "scores.csv", index=False)
    return folder


def _config(root, **options):
    return ExploreConfig.from_parameters({**QUICK, "data_root": str(root), **options})


@pytest.fixture(scope="module")
def computed(root):
    """An explorer whose chosen features are all there."""
    explorer = Explorer(_config(root))
    explorer.compute()
    return explorer


@pytest.fixture
def explorer(computed, root):
    computed.choose(**{k: getattr(_config(root), k) for k in ("timesteps", "taps", "timestep")})
    computed.choose(tap="all", plot="score", statistic="srcc", poolings=("mean", "std"))
    computed.choose(channel=None, photograph=None, run_a=None, run_b=None, model=None)
    return computed


@pytest.fixture
def no_passes(monkeypatch):
    """Any U-Net pass is an error."""

    def refuse(*_, **__):
        raise AssertionError("a U-Net pass")

    monkeypatch.setattr("dpiqa_lab.diffusion.backbone.Backbone.denoise", refuse)


# What is chosen


def test_changes_are_checked_and_reset_dependent_fields(root):
    config = _config(root, timestep=300, tap="mid_block", channel=3, photograph="p001.png")
    assert config.but(timesteps="1,50").timestep == 1
    assert config.but(timesteps="50,300").timestep == 300
    assert config.but(taps="up_blocks.1").tap == "all"
    assert config.but(tap="up_blocks.1").channel is None
    assert config.but(statistic="plcc").channel == 3
    other = config.but(dataset="demo", data_root=None)
    assert (other.image_size, other.photograph) == (256, None)
    with pytest.raises(LabError, match="timesteps must be between 0 and 999, got 1000"):
        config.but(timesteps="1,1000")
    with pytest.raises(LabError, match="timesteps must be int, got 'x'"):
        config.but(timesteps="1,x")
    with pytest.raises(LabError, match="unknown timestep 7"):
        config.but(timestep=7)


def test_the_command_gives_the_view_again_whatever_the_names(root):
    import shlex

    config = _config(root, photograph="it's 1.png", strength=0.25, timestep=300)
    config = config.but(data_root=str(root), name="007")
    words = shlex.split(config.command())
    assert words[0] == "papermill"
    assert words[1].endswith("notebooks/06_explore.ipynb")
    given = {name: (flag, value) for flag, name, value in zip(*[iter(words[3:])] * 3, strict=True)}
    assert given["name"] == ("-r", "007")  # -p would make it the number 7
    # As papermill reads them.
    values = {
        name: value if flag == "-r" else ast.literal_eval(value)
        for name, (flag, value) in given.items()
    }
    assert ExploreConfig.from_parameters(values) == config


# From the cache


@pytest.mark.medium
def test_every_choice_follows_from_the_cache(explorer, no_passes):
    view = View(explorer)
    assert explorer.coverage().to_numpy().all()
    for timestep in (1, 300):
        for tap in ("all", "mid_block", "up_blocks.1"):
            for plot in ("score", "channel"):
                explorer.choose(timestep=timestep, tap=tap, plot=plot)
                view.curves()
                assert len(view.points().data[2].x) == 6  # the test part
    explorer.choose(statistic="channel")
    assert not explorer.overview()["value"].isna().any()
    explorer.choose(timesteps="1,200")
    assert explorer.coverage().loc[200].sum() == 0
    assert explorer.overview().query("timestep == 200")["value"].isna().all()
    explorer.choose(timestep=200)
    assert not explorer.ready()
    with pytest.raises(LabError, match=r"no features of 'up_blocks.1' at timestep 200 yet"):
        view.points()


def test_predictions_are_the_probes(explorer, monkeypatch):
    for tap in ("all", "mid_block"):
        explorer.choose(timestep=300, tap=tap)
        expected = probe(explorer.features())
        found = explorer.predictions()
        assert list(found["name"]) == list(expected["name"])
        assert found["score"].to_numpy() == pytest.approx(expected["score"].to_numpy())
    value = explorer.overview().query("timestep == 300 and tap == 'mid_block'")["value"].item()
    assert value == pytest.approx(lab.metrics.srcc(expected["score"], expected["mos"]))
    # A probe seen before is not fitted again, by a new explorer neither.
    best = explorer.channel()
    for name in ("fit_probe", "spearman_columns"):
        monkeypatch.setattr(f"dpiqa_lab.explorer.probes.{name}", None)
    again = Explorer(explorer.config)
    assert again.predictions().equals(found)
    assert again.channel() == best


def test_columns_are_named_as_they_are_joined(explorer):
    explorer.choose(poolings=("max", "grid"), tap="all", plot="channel")
    names, x = explorer.column_names(), explorer.columns()
    assert len(names) == x.shape[1]
    features = explorer.features()
    for place in (0, len(names) // 2, len(names) - 1):
        tap, pooling, channel, quarter = names[place]
        index = channel if quarter is None else 4 * channel + quarter
        assert (x[:, place] == features[1, tap, pooling][:, index].numpy()).all()
    assert str(names[-1]).startswith("up_blocks.1, grid 4 of channel")
    best = explorer.channel()
    rest = (explorer.dataset.table["split"] != "test").to_numpy()
    found = np.abs(spearman_columns(x[rest], explorer.dataset.table["mos"].to_numpy()[rest]))
    assert found[best] == np.nanmax(found)
    explorer.choose(channel=99999)
    with pytest.raises(LabError, match="channel 99999: this view has"):
        explorer.channel()


def test_a_wrong_choice_leaves_the_view_as_it_was(explorer):
    before = explorer.config
    for wrong in ({"taps": "mid_blok"}, {"tap": "up_blocks.2"}, {"dataset": "nothing"}):
        with pytest.raises(LabError, match="unknown"):
            explorer.choose(**wrong)
        assert explorer.config == before
    with pytest.raises(LabError, match="do not fit"):
        explorer.choose(image_size=100)
    assert explorer.config == before
    assert explorer.ready()


def test_work_can_be_watched_and_stopped_and_keeps_what_is_done(root, monkeypatch):
    explorer = Explorer(_config(root, timesteps="7", batch_size=4))
    progress = []

    def watch(what, done, total):
        progress.append((what, done, total))
        if what == "extracting features" and done == 3:
            raise Stopped

    with pytest.raises(Stopped), tracked(watch):
        explorer.compute()
    assert progress[-4:] == [("extracting features", i, 8) for i in range(4)]
    assert len(explorer.store.entry(7, "mid_block").held()) == 12
    assert not explorer.ready()
    passes = []
    original = features_module.FeatureTaps.__enter__
    monkeypatch.setattr(
        features_module.FeatureTaps, "__enter__", lambda self: passes.append(1) or original(self)
    )
    explorer.compute()
    assert explorer.ready()
    assert len(passes) == 5  # (30 - 12) / 4 batches


# Photographs


def test_the_photograph_shown_has_the_largest_error(explorer):
    table = explorer.predictions()
    worst = table.loc[(table["score"] - table["mos"]).abs().idxmax(), "name"]
    assert explorer.photograph() == worst
    explorer.choose(photograph="p003.png")
    assert explorer.photograph() == "p003.png"
    explorer.choose(photograph="p999.png")
    with pytest.raises(LabError, match=r"no photograph 'p999.png' in"):
        explorer.photograph()


def test_neighbours_are_the_nearest_by_hand(explorer):
    from sklearn.preprocessing import StandardScaler

    z = StandardScaler().fit_transform(explorer.columns())  # constant features become 0
    distances = [np.sqrt(np.mean((row - z[4]) ** 2)) for row in z]
    order = [i for i in np.argsort(distances) if i != 4][:3]
    found = ExplorerImages(explorer).neighbours("p004.png", 3)
    assert list(found["name"]) == [f"p{i:03d}.png" for i in order]
    assert found["distance"].to_numpy() == pytest.approx([distances[i] for i in order], rel=1e-6)


def test_an_activation_map_pools_to_the_cached_feature(explorer):
    shown = ExplorerImages(explorer)
    for pooling, statistic in (("mean", np.mean), ("max", np.max), ("std", np.std)):
        explorer.choose(poolings=(pooling,), tap="up_blocks.1", plot="channel")
        explorer.choose(channel=5)
        assert shown.activation("p004.png", remembered=True) is None or pooling != "mean"
        activation = shown.activation("p004.png")
        assert statistic(activation) == pytest.approx(explorer.columns()[4, 5], rel=1e-4, abs=1e-5)
        assert shown.activation("p004.png", remembered=True) is not None


def test_no_damage_gives_the_cached_features_and_score(explorer):
    done = ExplorerImages(explorer).damaged("p004.png", "noise", 0.0)
    assert done.channels["after"].to_numpy() == pytest.approx(
        done.channels["before"].to_numpy(), rel=1e-3, abs=1e-4
    )
    assert done.probe[0] == pytest.approx(done.probe[1], abs=1e-4)
    test = explorer.predictions().iloc[0]
    done = ExplorerImages(explorer).damaged(test["name"], "noise", 0.0)
    assert done.probe[0] == pytest.approx(test["score"])


def test_damage_under_noise_keeps_that_photographs_noise(root):
    explorer = Explorer(_config(root, noise_seed=3, timesteps="300"))
    explorer.compute()
    done = ExplorerImages(explorer).damaged("p004.png", "noise", 0.0)
    assert done.channels["shift"].abs().max() < 0.01


def _teacher_run(name, root, **options):
    given = {"dataset": "folder", "data_root": str(root), "mos_range": "0,100", "backbone": "tiny"}
    given |= {"prompts": "none", "decoder_width": 8, "device": "cpu", "precision": "float32"}
    numbers = lab.TrainConfig.from_parameters({**given, **options}).resolve().identity()
    _weights_of(name, numbers, build_teacher(numbers))


def _weights_of(name, numbers, model):
    folder = runs_dir() / name
    write_json(folder / "config.json", numbers)
    save_weights(folder / "checkpoints" / "best.safetensors", model.run_state())


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """An explorer at 64 pixels of photographs of 160, and runs that see them in other ways."""
    root = tmp_path_factory.mktemp("large") / "photos"
    photographs(root, 30, size=160).to_csv(root / "scores.csv", index=False)
    torch.manual_seed(0)
    _teacher_run("teacher-64", root, image_size=64)
    _teacher_run("teacher-128", root, image_size=128, patches=2, timestep=50)
    _teacher_run("teacher-official", root, image_size=192, recipe="official")
    peer = PmtIqaConfig(trunk="resnet18", image_size=128, crop_size=96)
    network = PmtIqa(peer.trunk, peer.image_size, peer.crop_size)
    _weights_of("pmt-128", peer.identity(), network)
    small_student(runs_dir() / "student-64")
    explorer = Explorer(_config(root, timesteps="1", taps="mid_block"))
    explorer.compute()
    return explorer


SEEN = {
    "teacher-64": 64, "teacher-128": 128, "teacher-official": 192, "pmt-128": 128,
    "student-64": 64, "embedded": None,
}  # fmt: skip


@pytest.mark.medium
@pytest.mark.parametrize("run", SEEN)
def test_undamaged_a_photograph_has_the_score_that_the_run_itself_gives_it(large, run):
    model = lab.load_model(run)
    assert model.image_size == (SEEN[run] or model.image_size)
    name = large.dataset.table["name"][2]
    path = large.dataset.table["path"][2]
    (expected,) = model.score([path], device="cpu")
    if model.image_size != large.config.image_size:
        (small,) = model.score([Image.fromarray(read_image(path, 64))], device="cpu")
        assert abs(small - expected) > 1e-4, "this model would not show the wrong size"
    large.choose(model=run)
    done = ExplorerImages(large).damaged(name, "noise", 0.0)
    assert done.model == pytest.approx((expected, expected), abs=1e-5)
    assert done.channels["shift"].abs().max() < 0.01
    # Damaged it is still seen at the model's own size.
    done = ExplorerImages(large).damaged(name, "defocus", 0.7)
    (after,) = model.score([done.pictures[1]], device="cpu")
    assert done.pictures[1].size == (160, 160)
    assert done.model == pytest.approx((expected, after), abs=1e-5)


def test_the_panel_keeps_a_model_that_is_no_run_of_this_folder(large):
    large.choose(model="embedded")
    panel = Panel(View(large))
    assert panel.damage.model.value == "embedded"
    panel.tabs.selected_index = 1
    assert "by embedded" in panel.damage.pair.value
    (expected,) = lab.load_model("embedded").score(
        [large.dataset.table["path"][large.position(large.photograph())]], device="cpu"
    )
    assert panel.damage.scores.data[1].y[0] == pytest.approx(expected, abs=1e-5)


def test_two_runs_show_no_photograph_of_another_dataset(large):
    table = large.dataset.table.query("split == 'test'")[["name", "mos", "split"]]
    _run("own", table.assign(score=table["mos"]))
    _run("else", table.assign(mos=table["mos"] / 2, score=table["mos"]))
    panel, name = Panel(View(large)), table["name"].iloc[0]
    large.choose(run_a="own", run_b="own")
    panel.runs._choose_image(name)
    assert name in panel.runs.card.value
    large.choose(run_a="else", run_b="else")
    panel.runs.card.value = ""
    panel.runs._choose_image(name)
    assert panel.runs.card.value == ""
    assert "in the open dataset and" in panel.message.value


def test_damage_moves_what_it_should(explorer):
    done = ExplorerImages(explorer).damaged("p000.png", "defocus", 1.0)
    before, after = (np.asarray(picture, float) for picture in done.pictures)
    assert after.std() < before.std() / 2
    assert done.channels["shift"].abs().is_monotonic_decreasing
    assert done.channels["shift"].abs().iloc[0] > 0.5
    # MOS of these photographs is their contrast.
    assert done.probe[1] < done.probe[0]


# Two runs


def _run(name, table, **config):
    folder = runs_dir() / name
    write_json(folder / "config.json", {"dataset": "folder", **config})
    write_json(folder / "summary.json", {"status": "completed"})
    table.to_csv(folder / "predictions.csv", index=False)


def test_runs_are_compared_on_what_both_were_tested_on():
    rng = np.random.default_rng(0)
    mos = rng.uniform(size=80)
    names = [f"{i}.png" for i in range(80)]
    table = pd.DataFrame({"name": names, "mos": mos, "split": ["test"] * 70 + ["val"] * 10})
    _run("good", table.assign(score=mos + 0.01 * rng.normal(size=80)))
    _run("bad", table.assign(score=rng.normal(size=80))[::-1])
    _run("other", table.assign(mos=mos / 2, score=mos))
    _run("elsewhere", table.assign(name=[f"b{i}" for i in range(80)], score=mos))
    shared = shared_predictions("good", "bad")
    assert len(shared) == 70
    found = compare_predictions(shared).set_index("metric")
    difference = found.loc["srcc", "a"] - found.loc["srcc", "b"]
    assert found.loc["srcc", "difference"] == pytest.approx(difference)
    assert found.loc["srcc", "a"] > 0.99
    assert found["differs"].all()
    same = compare_predictions(shared_predictions("good", "good"))
    assert (same["difference"] == 0).all()
    assert not same["differs"].any()
    with pytest.raises(LabError, match="other datasets or score scales"):
        shared_predictions("good", "other")
    with pytest.raises(LabError, match="share no test photograph"):
        shared_predictions("good", "elsewhere")


# Figures, files, widgets


def test_figures_ring_what_is_shown(explorer):
    view = View(explorer)
    explorer.choose(timestep=300, tap="mid_block", photograph=explorer.predictions()["name"][0])
    explorer.choose(timesteps="1,300,301")  # what is not there is a gap, and JSON knows no NaN
    assert list(view.curves().data[0].y)[2] is None
    assert view.curves().layout.xaxis.autotypenumbers == "strict"  # "1" and "300" are no numbers
    assert view.curves().layout.autosize
    ring = view.curves().data[-1]
    assert list(ring.x) == ["300"]
    row = explorer.predictions().iloc[0]
    ring = view.points().data[-1]
    assert (ring.x[0], ring.y[0]) == (row["score"], row["mos"])


def test_an_export_holds_the_view(explorer):
    explorer.choose(name="exported", photograph="p004.png")
    files = {path.name: path for path in View(explorer).export()}
    assert {path.parent for path in files.values()} == {runs_dir() / "exported"}
    page = files["view.html"].read_text()
    assert page.count("<div id=") >= 6
    assert "plotly.js v" in page  # opens offline
    table = pd.read_csv(files["points.csv"])
    assert table["x"].to_numpy() == pytest.approx(explorer.points()["x"].to_numpy())
    assert files["command.txt"].read_text() == explorer.config.command() + "\n"
    assert Image.open(files["photographs.png"]).width > 600


def test_a_contact_sheet_has_room_for_all():
    sheet = contact_sheet([Image.new("RGB", (300, 100), "red")] * 5, ["a\nb"] * 5, columns=4)
    pixels = np.asarray(sheet)
    assert (pixels == (255, 0, 0)).all(-1).sum() == 5 * 192 * 64


def test_a_widget_follows_a_figure():
    import plotly.graph_objects as go

    first = figures.points(None, "x", None)
    widget = go.FigureWidget(first)
    assert widget.layout.xaxis.visible is False  # there is nothing to show on it
    table = pd.DataFrame({"name": ["a"], "mos": [0.5], "split": ["test"], "x": [0.25]})
    follow(widget, figures.points(table, "other", "a"))
    assert list(widget.data[2].x) == [0.25]
    assert widget.layout.xaxis.title.text == "other"
    assert not widget.layout.annotations
    assert widget.layout.xaxis.visible is not False
    follow(widget, first)
    assert len(widget.layout.annotations) == 1
    assert widget.layout.xaxis.visible is False


@pytest.fixture
def panel(explorer):
    return Panel(View(explorer))


def test_the_panel_follows_choices_and_says_what_is_wrong(panel, explorer):
    before = list(panel.images.points.data[2].x)
    panel.timestep.value = 300
    assert explorer.config.timestep == 300
    assert list(panel.images.points.data[2].x) != before
    panel.channel.value = "many"
    assert "lab-bad" in panel.message.value
    assert "channel must be int, got" in panel.message.value
    panel.plot.value = "channel"
    panel.channel.value = "2"
    assert explorer.config.channel == 2
    assert "in the cache" in panel.message.value
    panel.timesteps.value = "1, 200, oops"
    assert "oops" in panel.message.value
    assert panel.timesteps.value == "1, 300"  # as it is


def test_the_panel_computes_beside_the_notebook_and_stops(panel, explorer):
    panel.timesteps.value = "11"
    assert "0 of 2" in panel.message.value
    assert panel.images.points.layout.annotations[0].text.startswith("not computed yet")
    panel.run_in_background("computing", lambda: panel._request_stop() or explorer.compute())
    assert panel.timestep.disabled
    panel.worker.join(60)
    assert "Stopped" in panel.message.value
    assert not panel.timestep.disabled
    assert panel.stop.disabled
    panel.compute.click()
    panel.worker.join(60)
    assert "2 of 2" in panel.message.value
    assert len(panel.images.points.data[2].x) == 6


def test_the_panel_opens_another_dataset_or_says_why_not(panel, explorer, root):
    panel.data_root.value = str(root / "nowhere")
    panel.opener.click()
    panel.worker.join(60)
    assert "no folder" in panel.message.value
    assert panel.data_root.value == str(root)


def test_a_click_shows_the_photograph_and_damage_its_fall(panel):
    panel.images._choose_image("p000.png")
    assert "p000.png" in panel.images.card.value
    assert "activation map" in panel.images.card.value
    assert panel.images.near.value.count("<img") == 6
    panel.tabs.selected_index = 1
    assert list(panel.damage.scores.data[0].x) == [0, 0.5]
    panel.damage.strength.value = 1.0
    assert list(panel.damage.scores.data[0].x) == [0, 0.5, 1]
    assert "-p strength 1.0" in panel.files.command.value
    panel.damage.damage.value = "jpeg"
    assert list(panel.damage.scores.data[0].x) == [0, 1]


@pytest.mark.medium
def test_explore_gives_widgets_only_where_somebody_watches(root, monkeypatch):
    monkeypatch.setattr("dpiqa_lab.explorer.app.interactive", lambda: True)
    assert isinstance(lab.explore(_config(root)), Panel)
    monkeypatch.setattr("dpiqa_lab.explorer.app.interactive", lambda: False)
    assert isinstance(lab.explore(_config(root)), View)
    assert isinstance(lab.explore(_config(root), widgets=True), Panel)
