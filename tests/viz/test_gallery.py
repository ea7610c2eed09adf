"""The gallery: what is in its page, and what a click does in a browser."""

import html
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import dpiqa_lab as lab

EVIL = "<script>document.title='caught'<!--&amp;\"'.png"


@pytest.fixture
def scored(tmp_path):
    """Photographs whose order by name, by score and by MOS differs; one has no MOS."""
    names = ["b.png", EVIL, "a.png", "ü {x}.png"]
    for i, name in enumerate(names):
        Image.new("RGB", (300, 20 + 100 * i), (60 * i, 80, 120)).save(tmp_path / name)
    scores, mos = [0.5, -0.25, 1.5, 0.1], [0.9, 0.2, np.nan, 0.3]
    return tmp_path, pd.DataFrame({"name": names, "score": scores, "mos": mos})


def test_the_page_holds_all_and_escapes_names(scored):
    root, table = scored
    shown = lab.viz.write_gallery(table, root, root / "out" / "g.html")
    page = (root / "out" / "g.html").read_text(encoding="utf-8")
    assert page.count("<script") == 1
    assert html.escape(EVIL, quote=False) in page
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert len(sources) == 4
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert "http" not in re.sub(r"data:[^\"]*", "", page)
    (inside,) = re.findall(r'srcdoc="([^"]*)"', shown.data)
    assert html.unescape(inside) == page
    assert "4 photographs. Sort by" in page


def test_of_many_the_ends_and_what_lies_between_are_shown(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    table = pd.DataFrame(
        {"name": "x.png", "score": np.arange(101) / 100, "path": tmp_path / "x.png"}
    )
    page = lab.viz.write_gallery(table.sample(frac=1, random_state=0), limit=5).data
    assert re.findall(r"data-score=&quot;([\d.]+)", page) == ["1.0", "0.75", "0.5", "0.25", "0.0"]
    assert "5 of 101 photographs, along the score" in page


def test_bad_tables_are_refused(scored):
    root, table = scored
    with pytest.raises(lab.LabError, match="no column score"):
        lab.viz.write_gallery(table.drop(columns="score"), root)
    with pytest.raises(lab.LabError, match="no photographs to show"):
        lab.viz.write_gallery(table[:0], root)
    with pytest.raises(lab.LabError, match=r"elsewhere/a\.png: no such file"):
        lab.viz.write_gallery(table, root / "elsewhere")


@pytest.mark.slow
def test_clicks_sort(scored, chromium):
    from playwright import sync_api as api

    root, table = scored
    shown = lab.viz.write_gallery(table, root, root / "g.html")
    (root / "cell.html").write_text(f"<!doctype html><meta charset='utf-8'>{shown.data}")
    b, evil, a, u = table["name"]
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        for name in ("g.html", "cell.html"):
            page.goto((root / name).as_uri())
            place = page if name == "g.html" else page.frame_locator("iframe")
            # Names on show, read from the page: what stands in them is text.
            cards, button = place.locator(".name"), place.locator("button")
            api.expect(cards).to_have_text([a, b, u, evil])  # best first
            button.filter(has_text="score").click()
            api.expect(cards).to_have_text([evil, u, b, a])
            button.filter(has_text="name").click()
            api.expect(cards).to_have_text([evil, a, b, u])
            button.filter(has_text="name").click()
            api.expect(cards).to_have_text([u, b, a, evil])
            button.filter(has_text="mos").click()
            api.expect(cards).to_have_text([b, u, evil, a])
            button.filter(has_text="mos").click()
            api.expect(cards).to_have_text([evil, u, b, a])  # without a number: last again
            assert "caught" not in page.title()
        browser.close()
