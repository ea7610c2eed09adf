"""The explorer driven in a real browser: Chromium, JupyterLab, notebook 06 on demo photographs."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pandas as pd
import pytest

from dpiqa_lab.core.paths import runs_dir
from tests.conftest import REPOSITORY, demo_photographs

pytestmark = pytest.mark.slow


@pytest.fixture
def jupyter(tmp_path):
    """The address of a JupyterLab on a copy of notebook 06, with settings of its own."""
    root = tmp_path / "photos"
    demo_photographs(root)
    notebook = nbformat.read(REPOSITORY / "notebooks" / "06_explore.ipynb", as_version=4)
    (cell,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    chosen = {
        "dataset": "folder", "data_root": str(root), "group_column": "scene", "mos_range": "0,1",
        "image_size": 64, "backbone": "tiny", "prompts": "none", "timesteps": "1,100,300",
        "taps": "mid_block,up_blocks.1,up_blocks.2", "device": "cpu", "precision": "float32",
        "strength": 0.3,
    }  # fmt: skip
    for name, value in chosen.items():
        cell.source, found = re.subn(
            rf"^{name} = .*?  #", f"{name} = {value!r}  #", cell.source, flags=re.M
        )
        assert found == 1, name
    lab = tmp_path / "lab"
    lab.mkdir()
    nbformat.write(notebook, lab / "06_explore.ipynb")
    settings = tmp_path / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps({"fetchNews": "false"}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = {
        "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython",
    }  # fmt: skip
    environment = {**os.environ, **{name: str(tmp_path / f) for name, f in folders.items()}}
    environment["PYTHONPATH"] = str(REPOSITORY)
    with (tmp_path / "jupyter.log").open("w") as log:
        server = subprocess.Popen(
            [
                sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root",
                f"--port={port}", "--ip=127.0.0.1", "--IdentityProvider.token=",
                f"--ServerApp.root_dir={lab}",
            ],
            env=environment, stdout=log, stderr=log,
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            assert server.poll() is None, (tmp_path / "jupyter.log").read_text()[-2000:]
            try:
                urllib.request.urlopen(f"{address}/api", timeout=1).close()
                break
            except OSError:
                time.sleep(0.25)
        yield f"{address}/lab/tree/06_explore.ipynb"
    finally:
        server.terminate()
        server.wait(30)


class Driver:
    """What a person sees and does."""

    def __init__(self, page, shots):
        self.page, self.shots = page, shots

    def shot(self, name):
        self.page.wait_for_timeout(700)
        self.page.screenshot(path=self.shots / f"{name}.png")

    def of_plot(self, title, look, *given):
        """What ``look``, a JavaScript function of a plot and ``given``, sees in that of a title."""
        return self.page.evaluate(
            f"""([title, ...given]) => {{
                const plots = [...document.querySelectorAll('.js-plotly-plot')];
                const plot = plots.find(p => p.offsetParent && p.layout.title.text === title);
                return ({look})(plot, ...given);
            }}""",
            [title, *given],
        )

    def plot(self, title):
        """The x and y of each trace of the plot with this title, as the browser draws it."""
        return self.of_plot(
            title, "plot => plot._fullData.map(t => ({x: [...(t.x || [])], y: [...(t.y || [])]}))"
        )

    def ticks(self, title):
        """How many ticks the plot's axes show."""
        return self.of_plot(title, "plot => plot.querySelectorAll('.xtick, .ytick').length")

    def place(self, title, trace, i):
        """Where point ``i`` of a trace is in the window."""
        look = """(plot, trace, i) => {
            plot.scrollIntoView({block: 'center'});
            const box = plot.getBoundingClientRect(), full = plot._fullLayout;
            const {x, y} = plot._fullData[trace];
            return [box.x + full._size.l + full.xaxis.d2p(x[i]),
                    box.y + full._size.t + full.yaxis.d2p(y[i])];
        }"""
        return self.of_plot(title, look, trace, i)

    def changed(self, title, before):
        """The plot's traces once they are others than ``before``."""
        for _ in range(150):
            if (now := self.plot(title)) != before:
                return now
            self.page.wait_for_timeout(200)
        pytest.fail(f"the plot {title!r} did not change")

    def click(self, label, kind):
        self.page.locator(f"{kind}:visible", has_text=re.compile(f"^{label}$")).first.click()


SCATTER, CURVES, DAMAGE = "Click a photograph", "Where quality is read", "Scores under the damage"
TEST_PART = 2  # the trace


def test_a_person_explores(jupyter, chromium, tmp_path):
    from playwright import sync_api as api

    shots = tmp_path / "screenshots"
    shots.mkdir()
    print(f"screenshots: {shots}")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 1300})
        page.set_default_timeout(90_000)
        api.expect.set_options(timeout=90_000)
        seen = Driver(page, shots)
        try:
            page.goto(jupyter)
            _open_and_compute(seen)
            _choose_a_timestep(seen)
            _click_a_photograph(seen)
            _drag_damage(seen, api.expect)
            command = _export(seen)
        except BaseException:
            page.screenshot(path=shots / "failed.png")
            raise
        finally:
            browser.close()
    _run_it_again(command, tmp_path)


def _open_and_compute(seen):
    page = seen.page
    page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for()
    page.get_by_text("(ipykernel) | Idle").wait_for()  # else it asks for a kernel
    seen.click("Run", ".lm-MenuBar-itemLabel")
    seen.click("Run All Cells", ".lm-Menu-itemLabel")
    panel = page.locator(".lab-side")
    panel.wait_for()
    panel.get_by_text("0 of 9 layers × timesteps are in the cache").wait_for()
    before = seen.plot(SCATTER)
    assert before[TEST_PART]["x"] == []
    assert seen.ticks(SCATTER) == 0
    seen.shot("0-nothing-yet")
    seen.click("Compute", "button")
    panel.get_by_text("9 of 9 layers × timesteps are in the cache").wait_for()
    assert len(seen.changed(SCATTER, before)[TEST_PART]["x"]) > 5
    assert seen.ticks(SCATTER) > 5
    seen.shot("1-photographs")


def _choose_a_timestep(seen):
    before = seen.plot(SCATTER), seen.plot(CURVES)
    slider = seen.page.locator(".widget-hslider:visible", has_text="timestep")
    slider.locator(".noUi-handle").focus()
    seen.page.keyboard.press("ArrowRight")
    now = seen.changed(SCATTER, before[0])
    assert now[TEST_PART]["y"] == before[0][TEST_PART]["y"]
    assert now[TEST_PART]["x"] != before[0][TEST_PART]["x"]
    ring = seen.changed(CURVES, before[1])[-1]
    assert ring["x"] == ["100"]


def _click_a_photograph(seen):
    page = seen.page
    point = seen.plot(SCATTER)[TEST_PART]
    low = min(range(len(point["y"])), key=lambda i: point["y"][i])
    page.mouse.click(*seen.place(SCATTER, TEST_PART, low))
    page.locator("figcaption", has_text="activation map").wait_for()
    card = page.locator(".lab-card:visible", has_text="as released")
    assert f"{point['y'][low]:.3f}" in card.inner_text()
    assert f"{point['x'][low]:.3f}" in card.inner_text()
    assert page.locator("figcaption:visible", has_text="distance").count() == 6
    seen.shot("2-clicked")


def _drag_damage(seen, expect):
    page = seen.page
    seen.click("Damage", ".lm-TabBar-tabLabel")
    page.get_by_text("strength 0.30").wait_for()
    before = seen.plot(DAMAGE)
    handle = page.locator(".widget-hslider:visible", has_text="strength").locator(".noUi-handle")
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y, steps=5)
    page.mouse.move(x + 75, y, steps=5)
    assert seen.plot(DAMAGE) == before  # a pass only where the slider is let go
    page.mouse.up()
    now = seen.changed(DAMAGE, before)
    assert len(now[0]["x"]) == 3  # none, the first strength, the one dragged to
    assert now[0]["x"][-1] > 0.4
    expect(page.get_by_text(f"strength {now[0]['x'][-1]:.2f}")).to_be_visible()
    seen.shot("3-damage")


def _export(seen):
    page = seen.page
    seen.click("Export", ".lm-TabBar-tabLabel")
    seen.click("Export HTML, CSV, PNG", "button")
    page.get_by_text("Written:").wait_for()
    seen.shot("4-export")
    return page.locator("textarea:visible").last.input_value()


def _run_it_again(command, tmp_path):
    """The exported command, from another folder, gives the numbers of the panel."""
    written = runs_dir() / "explore"
    assert {path.name for path in written.iterdir()} >= {
        "view.html", "points.csv", "curves.csv", "photographs.png", "command.txt",
    }  # fmt: skip
    assert written.joinpath("command.txt").read_text().strip() == command
    kept = tmp_path / "kept"
    written.rename(kept)
    program, *words = shlex.split(command)
    assert program == "papermill"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run(
        [sys.executable, "-m", program, *words, "--no-progress-bar"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    for name in ("points.csv", "curves.csv"):
        pd.testing.assert_frame_equal(pd.read_csv(written / name), pd.read_csv(kept / name))
    assert "-r damage" not in command  # the default
    assert (tmp_path / "out.ipynb").is_file()
