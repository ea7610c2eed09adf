"""The report of an evaluation: one page that opens offline, whatever things are called."""

import re

import numpy as np
import pytest

import dpiqa_lab as lab
from dpiqa_lab.core.errors import LabError
from dpiqa_lab.viz import evaluation_figures as figures
from tests.conftest import photographs
from tests.support.pages import Page

ODD = "</script><script>alert(1)</script>"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("odd") / "<b>photos"
    table = photographs(root, 30)
    (root / "p000.png").rename(root / "<script>alert(2).png")
    table.loc[0, "name"] = "<script>alert(2).png"
    table["split"] = ["test" if i % 3 == 0 else "val" if i % 3 == 1 else "train" for i in range(30)]
    table.to_csv(root / "scores.csv", index=False)
    dataset = lab.load_dataset("folder", root, mos_range=(0, 100), image_size=64)

    def broken(paths):
        raise RuntimeError(ODD)

    def names(paths):
        return [float(len(path.name)) for path in paths]

    models = {ODD: "ridge_on_statistics", "names": names, "broken": broken}
    config = lab.EvaluateConfig.from_parameters(
        {"robustness": 2, "resamples": 20, "device": "cpu", "shown": 3, "run_name": "odd"}
    )
    return lab.evaluation.run_evaluation(config, models, {ODD: dataset})


def test_report_is_whole_offline_and_escaped(run):
    path = lab.viz.write_report(run)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert text.count("plotly.js v") == 1
    assert not [attrs for tag, attrs in page.tags if tag in ("script", "link") and "src" in attrs]
    assert not re.search(
        r"<(link|img|iframe)\b", re.sub(r"<script.*?</script>", "", text, flags=re.S)
    )
    assert not [script for script in page.scripts if script.startswith("alert")]
    assert "b" not in {tag for tag, _ in page.tags}
    shown = "".join(page.outside)
    assert f"broken on {ODD} FAILED: RuntimeError: {ODD}" in shown
    assert "needs 5" not in shown
    # Test part: 10 photographs; three rows of three for two models, and six most disagreed.
    assert len(re.findall(r"data:image(?:/|\\u002f)jpeg", text)) == 2 * 9 + 6
    assert len([1 for tag, _ in page.tags if tag == "table"]) == 1


def test_report_without_its_photographs_keeps_the_numbers(run, tmp_path):
    table = lab.evaluation.evaluation_tables(run)["photographs"]
    table.assign(path="gone.png").to_csv(run.path / "photographs.csv", index=False)
    try:
        text = lab.viz.write_report(run).read_text(encoding="utf-8")
    finally:
        table.to_csv(run.path / "photographs.csv", index=False)
    assert "no photographs: gone.png: no such file" in text
    assert not re.search(r"data:image(?:/|\\u002f)jpeg", text)
    (run.path / "cross.csv").rename(tmp_path / "cross.csv")
    try:
        with pytest.raises(LabError, match="no table cross"):
            lab.viz.write_report(run)
    finally:
        (tmp_path / "cross.csv").rename(run.path / "cross.csv")


def test_figures_show_what_the_tables_say(run):
    tables = lab.evaluation.evaluation_tables(run)
    results = tables["agreement"]
    figure = figures.agreement_intervals(results, ODD)
    ridge = results.set_index("model").loc[ODD]
    assert figure.data[0].x[0] == ridge["srcc"]
    reach = figure.data[0].error_x
    assert ridge["srcc"] + reach.array[0] == pytest.approx(ridge["srcc_high"])
    assert ridge["srcc"] - reach.arrayminus[0] == pytest.approx(ridge["srcc_low"])
    matrix = figures.difference_matrix(tables["differences"], ODD).data[0].z
    assert matrix[0][1] == -matrix[1][0] == tables["differences"]["difference"][0]
    assert np.isnan(matrix[0][0])
    panels = figures.score_panels(tables["scores"], tables["calibration"], results, ODD)
    diagonals = [trace for trace in panels.data if trace.line.dash == "dot"]
    assert len(diagonals) == 1  # the lengths of names are on no scale of MOS
    bars = figures.robustness_bars(tables["robustness"], ODD)
    assert [list(trace.y) for trace in bars.data] == [
        rows["moved"].tolist() for _, rows in tables["robustness"].groupby("model", sort=False)
    ]
    with pytest.raises(LabError, match="on 'nowhere' to draw"):
        figures.error_panels(tables["errors"], "nowhere")


def test_metrics_are_told_with_their_intervals():
    mos = np.linspace(0, 1, 30)
    rows = {"good": lab.metrics.summary(mos**2, mos), "flat": lab.metrics.summary(0 * mos, mos)}
    table = lab.viz.summary_table(rows)
    assert table.index.tolist() == ["good", "flat"]
    assert table["SRCC"].tolist() == ["1.000 (1.000 to 1.000)", "undefined"]
    assert re.fullmatch(r"0\.\d{3} \(0\.\d{3} to 0\.\d{3}\)", table.loc["good", "RMSE raw"])
    assert table["n"].tolist() == [30, 30]
