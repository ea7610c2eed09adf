import re

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from PIL import Image

from dpiqa_lab import metrics
from dpiqa_lab.core.errors import LabError
from dpiqa_lab.viz.figures import contact_sheet, pick, predicted_against_mos, save, training_curves

HISTORY = pd.DataFrame(
    {
        "step": [10, 20, 30, 40],
        "loss": [1.0, 0.5, 0.2, 0.05],
        "val_srcc": [0.1, None, 0.7, 0.6],
        "val_plcc": [0.2, None, 0.6, 0.65],
        "learning_rate": [1e-4, 1e-4, 5e-5, 0],
    }
)


def named(figure: go.Figure, name: str) -> go.Scatter:
    return next(trace for trace in figure.data if (trace.name or "").startswith(name))


def predictions(n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    score = rng.uniform(0, 1, n)
    mos = np.tanh(3 * score) + 0.05 * rng.normal(size=n)
    split = np.where(np.arange(n) % 3 == 0, "test", "train")
    names = [f"{i}.jpg" for i in range(n)]
    return pd.DataFrame({"name": names, "mos": mos, "score": score, "split": split})


# Training curves


def test_training_curves_show_what_was_logged():
    figure = training_curves(HISTORY)
    assert [trace.name for trace in figure.data] == [
        "training loss",
        "learning rate",
        "validation SRCC",
        "validation PLCC",
        "best step",
    ]
    assert list(named(figure, "validation SRCC").x) == [10, 30, 40]
    assert list(named(figure, "training loss").y) == [1.0, 0.5, 0.2, 0.05]
    assert named(figure, "validation SRCC").yaxis != named(figure, "training loss").yaxis


def test_the_best_step_is_marked():
    figure = training_curves(HISTORY)
    best = named(figure, "best step")
    assert (best.x, best.y) == ((30,), (0.7,))
    assert {shape.x0 for shape in figure.layout.shapes} == {30}
    assert "0.700 at step 30" in figure.layout.title.text


def test_loss_is_logarithmic_only_where_it_spans_decades():
    assert training_curves(HISTORY).layout.yaxis.type == "log"
    assert training_curves(HISTORY.head(2)).layout.yaxis.type is None


def test_training_curves_without_validation():
    for history in (HISTORY[["step", "loss"]], HISTORY.assign(val_srcc=None, val_plcc=None)):
        figure = training_curves(history)
        assert "no SRCC on validation yet" in [note.text for note in figure.layout.annotations]
        assert not any("SRCC" in (trace.name or "") for trace in figure.data)
    with pytest.raises(LabError, match="no column step"):
        training_curves(pd.DataFrame({"loss": [1.0]}))


# Predicted against MOS


def test_curve_is_the_fitted_logistic():
    table = predictions()
    figure = predicted_against_mos(table)
    test = table[table["split"] == "test"]
    logistic = metrics.fit_logistic(test["score"], test["mos"])
    curve = [trace for trace in figure.data if trace.mode == "lines"][-1]
    assert curve.legendgroup == "test"
    assert (curve.x[0], curve.x[-1]) == (test["score"].min(), test["score"].max())
    for place in (0, 77, 199):
        gate = 1 / (1 + np.exp(-(curve.x[place] - logistic.centre) / logistic.scale))
        by_hand = logistic.low + (logistic.high - logistic.low) * gate
        assert curve.y[place] == pytest.approx(by_hand)


def test_legend_has_the_metrics_and_points_their_names():
    table = predictions()
    figure = predicted_against_mos(table)
    points = [trace for trace in figure.data if trace.mode == "markers"]
    assert [trace.legendgroup for trace in points] == ["train", "test"]
    test = table[table["split"] == "test"]
    srcc = metrics.srcc(test["score"], test["mos"])
    plcc = metrics.plcc(test["score"], test["mos"], logistic=True)
    assert points[1].name == f"test: SRCC {srcc:.3f}, PLCC {plcc:.3f}, n = 20"
    assert list(points[1].text) == list(test["name"])
    assert list(points[1].x) == list(test["score"])
    assert list(points[1].y) == list(test["mos"])


def test_plain_plcc_without_the_logistic():
    table = predictions().assign(split="ours & theirs")
    figure = predicted_against_mos(table, logistic=False)
    assert len(figure.data) == 1
    assert f"PLCC {metrics.plcc(table['score'], table['mos']):.3f}" in figure.data[0].name
    assert figure.data[0].name.startswith("ours &amp; theirs")


def test_constant_predictions_are_drawn_without_a_curve():
    with pytest.warns(RuntimeWarning, match="no logistic"):
        figure = predicted_against_mos(predictions().assign(score=0.5, split="test"))
    assert len(figure.data) == 1
    assert "SRCC undefined, PLCC undefined" in figure.data[0].name


def test_many_points_are_drawn_by_webgl():
    assert {trace.type for trace in predicted_against_mos(predictions(5001), False).data} == {
        "scattergl"
    }


# Photographs


@pytest.fixture
def rows(tmp_path) -> pd.DataFrame:
    table = predictions(6)
    table["name"] = ["<b>x</b>&.png", *table["name"][1:5], "a_long_name_of_a_photograph_0001.jpg"]
    table["path"] = [str(tmp_path / f"{i}.png") for i in range(6)]
    for i, path in enumerate(table["path"]):
        Image.new("RGB", (400, 100 + 100 * i), (40 * i, 0, 0)).save(path)
    return table


def test_sheet_has_a_captioned_picture_a_row(rows):
    figure = contact_sheet(rows, "Best", columns=4, thumb=96)
    assert figure.layout.title.text == "Best"
    pictures, captions = figure.layout.images, figure.layout.annotations
    assert len(pictures) == len(captions) == 6
    assert all(picture.source.startswith("data:image/jpeg;base64,") for picture in pictures)
    assert pictures[0].y == pictures[3].y < pictures[4].y == pictures[5].y
    assert pictures[0].x == pictures[4].x < pictures[1].x
    mos, score = rows["mos"][1], rows["score"][1]
    assert captions[1].text == f"1.jpg<br>MOS {mos:.3g}, score {score:.3g}"


def test_names_are_escaped_and_long_ones_cut_in_the_middle(rows, tmp_path):
    figure = contact_sheet(rows, "Names")
    assert figure.layout.annotations[0].text.startswith("&lt;b&gt;x&lt;/b&gt;&amp;.png<br>")
    assert figure.layout.annotations[5].text.startswith("a_long_na…ph_0001.jpg<br>")
    assert figure.data[0].hovertext[5].startswith("a_long_name_of_a_photograph_0001.jpg<br>")
    name = "</script><script>alert(1)</script>\udcff.png"  # with a byte that is no UTF-8
    odd = rows.head(1).assign(name=pd.Series([name], dtype=object))
    text = save(contact_sheet(odd, "Odd"), tmp_path, "odd").read_text(encoding="utf-8")
    assert "alert(1)</script>" not in text


def test_thumbnails_are_small(rows):
    figure = contact_sheet(rows.tail(1), "One", thumb=96)
    assert len(figure.layout.images[0].source) < 4000


def test_photographs_that_are_not_there(rows):
    with pytest.raises(LabError, match="no such file"):
        contact_sheet(rows.assign(path="gone.jpg"), "Gone")
    with pytest.raises(LabError, match="table is empty"):
        contact_sheet(rows.head(0), "None")
    with pytest.raises(LabError, match="no column path"):
        contact_sheet(predictions(), "No paths")


def test_pick():
    table = predictions()
    table.loc[7, "mos"] = 5.0
    assert pick(table, "best", 3)["score"].tolist() == sorted(table["score"])[:-4:-1]
    assert pick(table, "worst", 3)["score"].tolist() == sorted(table["score"])[:3]
    assert pick(table, "most wrong", 1)["name"].tolist() == ["7.jpg"]
    assert len(pick(table, "best", 100)) == len(table)
    with pytest.raises(LabError, match="Did you mean 'worst'"):
        pick(table, "worts")


def test_most_wrong_allows_for_the_logistic():
    score = np.linspace(0, 1, 50)
    table = pd.DataFrame({"score": score, "mos": np.tanh(4 * score)})
    table.loc[20, "mos"] -= 0.2
    assert pick(table, "most wrong", 1).index.tolist() == [20]
    assert pick(table, "most wrong", 1, logistic=False).index.tolist() != [20]


# Files


def test_saved_figure_opens_offline(tmp_path):
    path = save(training_curves(HISTORY), tmp_path / "figures", "curves")
    assert path == tmp_path / "figures" / "curves.html"
    text = path.read_text(encoding="utf-8")
    assert "plotly.js v" in text
    assert not re.search(r"<(script|link)[^>]*(src|href)=", text)
    assert [file.name for file in path.parent.iterdir()] == ["curves.html"]
    with pytest.raises(LabError, match="not a file name"):
        save(go.Figure(), tmp_path, "../curves")
