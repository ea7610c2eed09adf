import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dpiqa_lab.core.errors import LabError
from dpiqa_lab.viz.overlays import colours, map_sheet, overlay
from dpiqa_lab.viz.probe_figures import (
    channel_strip,
    curves_by_timestep,
    heatmap,
    label_curves,
    photograph_scatter,
    similarity,
)

TABLE = pd.DataFrame(
    {
        "timestep": [1, 1, 100, 100],
        "tap": ["mid_block", "all"] * 2,
        "srcc": [0.5, 0.6, 0.3, 0.4],
        "srcc_low": [0.4, 0.5, 0.2, 0.3],
        "srcc_high": [0.55, 0.7, 0.4, 0.5],
    }
)


def test_heatmap_puts_each_number_in_its_cell():
    figure = heatmap(TABLE, "timestep", "tap", "a title")
    (trace,) = figure.data
    assert trace.z.tolist() == [[0.5, 0.3], [0.6, 0.4]]
    assert (list(trace.x), list(trace.y)) == (["1", "100"], ["mid_block", "all"])
    assert trace.customdata[1][0] == "0.600 (0.500 to 0.700)"
    partly = heatmap(TABLE[:3], "timestep", "tap", "a title")
    assert np.isnan(partly.data[0].z[1][1])
    tiny = heatmap(TABLE.assign(srcc=-0.001), "timestep", "tap", "a title")
    assert tiny.data[0].text[0][0] == "0.00"
    with pytest.raises(LabError, match="no column plcc"):
        heatmap(TABLE, "timestep", "tap", "a title", "plcc")


def test_curves_have_ranges_and_floors():
    figure = curves_by_timestep(TABLE[::-1], "a title", floors={"ten statistics": 0.45})
    lines = {trace.name: trace for trace in figure.data}
    assert list(lines) == ["all", "mid_block", "ten statistics"]
    assert list(lines["all"].y) == [0.6, 0.4]
    assert lines["all"].error_y.array == pytest.approx([0.1, 0.1])
    assert figure.layout.xaxis.type == "log"
    assert list(figure.layout.xaxis.ticktext) == ["1", "100"]
    assert list(lines["ten statistics"].y) == [0.45, 0.45]
    assert lines["all"].line.color != lines["mid_block"].line.color
    many = pd.concat([TABLE.assign(tap=TABLE["tap"] + str(i)) for i in range(3)])
    figure = curves_by_timestep(many, "a title")  # six ranges would hide one another
    assert {trace.error_y.array for trace in figure.data} == {None}
    assert list(figure.data[0].x) == [1, 100]
    assert list(figure.data[0].customdata[0]) == [1, 0.4, 0.55]
    none = curves_by_timestep(TABLE.replace({"timestep": {1: 0}}), "a title")
    assert none.layout.xaxis.type is None


def test_channels_are_split_by_q_and_labels_counted():
    table = pd.DataFrame(
        {"tap": "a", "channel": [0, 1, 2], "srcc": [0.5, -0.1, np.nan], "q": [0.01, 0.4, 1]}
    )
    figure = channel_strip(table, "a title")
    assert [trace.name for trace in figure.data] == [
        "q < 0.05: 1",
        "not distinguishable from chance: 2",
    ]
    labels = TABLE.rename(columns={"timestep": "labels"})
    assert [trace.name for trace in label_curves(labels, "a title").data] == ["mid_block", "all"]


def test_similarity_and_scatter():
    matrix = pd.DataFrame([[1, 0.2], [0.2, 1]], index=["a", "b"], columns=["a", "b"])
    assert similarity(matrix, "a title", "CKA").data[0].zmax == 1
    points = pd.DataFrame({"x": [0, 1], "y": [1, 0], "name": ["<b>", "c"], "mos": [0, 1]})
    assert photograph_scatter(points, "x", "y", "a title").data[0].text[0] == "&lt;b&gt;"


def test_overlay_is_brightest_where_the_map_is_highest():
    photograph = Image.new("RGB", (40, 20), (128, 128, 128))
    values = np.array([[0.0, 0.0], [0.0, 5.0]])
    pixels = np.asarray(overlay(photograph, values, 0, 5, 64)).astype(int).sum(-1)
    assert pixels.shape == (64, 64)
    assert pixels[-1, -1] == pixels.max() > pixels[0, 0] + 100
    flat = np.asarray(overlay(photograph, np.ones((2, 2)), 1, 1, 64))
    assert (flat == flat[0, 0]).all()
    with pytest.raises(LabError, match="height, width"):
        overlay(photograph, np.zeros((1, 2, 2)), 0, 1)
    assert colours(np.array([0.0, 1.0])).tolist() == [[0, 34, 78], [254, 232, 56]]


def test_a_sheet_has_a_row_a_photograph():
    photographs = [Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8))]
    maps = np.arange(24.0).reshape(2, 3, 2, 2)
    figure = map_sheet(photographs, maps, ["a", "b", "c"], "a title", thumb=32)
    assert len(figure.layout.images) == 8
    captions = [note.text for note in figure.layout.annotations]
    assert captions[:2] == ["", "a<br>0 to 15"]
    assert captions[1:4] == captions[5:]
    close = map_sheet(photographs, 0.2 + maps * 4e-6, ["a", "b", "c"], "a title", ["x", "y"])
    captions = [note.text for note in close.layout.annotations]
    assert captions[0] == "x"
    assert captions[1] == "a<br>0.2 to 0.2001"
