"""The report in a real browser: it asks for nothing, complains of nothing, fits a phone, and reads in both themes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from chromium import browser_tab
from report_scenes import some_backtest, trained

from ai.ml.retraining.backtest.page import to_html
from ai.ml.retraining.reporting.files import write_report

# Contrast of every text with the ground behind it, as WCAG 2 computes it; the smallest ratio and whose it is.
CONTRAST = """
(() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = parse(getComputedStyle(e).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  let worst = [99, ""];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.classList.contains("skip")) continue;
    const style = getComputedStyle(e);
    const ink = light(parse(e.closest("svg") ? style.fill : style.color)), paper = light(ground(e));
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    if (ratio < worst[0]) worst = [ratio, e.tagName + ": " + e.textContent.trim().slice(0, 40)];
  }
  return worst;
})()
"""


@pytest.mark.slow
@pytest.mark.needs("chromium")
def test_the_report_is_still_small_and_readable(tmp_path: Path) -> None:
    page = write_report(trained(tmp_path / "bundle", "classification", epochs=2), tmp_path / "report").page
    assert_readable(page, tmp_path / "profile")


@pytest.mark.slow
@pytest.mark.needs("chromium")
def test_a_backtests_report_is_as_readable(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(to_html(some_backtest()), encoding="utf-8")
    assert_readable(page, tmp_path / "profile")


def assert_readable(page: Path, profile: Path) -> None:
    url = page.as_uri()
    with browser_tab(profile) as tab:
        for width in (1280, 390):
            for dark in (False, True):
                tab.open(url, width=width, dark=dark)
                assert tab.evaluate("document.documentElement.scrollWidth") <= width, "it scrolls sideways"
                ratio, text = tab.evaluate(CONTRAST)
                assert ratio >= 4.5, f"contrast {ratio:.2f} of {text} at {width} px, dark: {dark}"
                titles = tab.evaluate("[...document.querySelectorAll('h1,h2,h3')].map((h) => Number(h.tagName[1]))")
                assert titles[0] == 1
                assert all(after - before <= 1 for before, after in pairwise(titles))
                assert tab.evaluate("document.querySelectorAll('script').length") == 0
        assert not tab.complaints
        assert {request for request in tab.requests if not request.startswith("data:")} == {url}
