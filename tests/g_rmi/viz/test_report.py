"""The page: whole, escaped, self-contained, and what a browser makes of it."""

import base64
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from g_rmi.viz import report, svg
from tests.g_rmi.viz.html_page import Page

HOSTILE = """<img src=x onerror=alert(1)>"'&amp;.jpg"""
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def picture(height=40, width=60):
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = 200  # red
    return image


def everything(word="word"):
    plot = svg.line_plot({word: ([0, 1], [0.5, 0.25])}, x=word, y=word)
    parts = [
        report.Numbers({word: 0.12345, "nothing": -1.0}),
        report.Table((word, "b"), [(word, "1"), ("row", word)]),
        report.Plots({word: plot}),
        report.Gallery(word, [report.Picture(picture(), word), report.Picture(picture(), "2")]),
        report.Folded(word, word),
    ]
    return report.page(word, word, [report.Section(word, word, parts)])


def test_a_page_of_everything():
    page = Page(everything())
    assert page.tags.count("img") == page.tags.count("button") == 2
    assert {"svg", "table", "dialog", "details", "h1", "h2", "h3"} <= set(page.tags)
    assert "0.123" in page.text
    assert "nothing -" in page.text


def test_text_is_escaped_wherever_it_stands():
    page = Page(everything(HOSTILE))
    harmless = Page(everything())
    assert page.tags == harmless.tags
    assert page.text.count(HOSTILE) == harmless.text.count("word") > 8


def test_sections_without_parts_are_left_out():
    page = Page(report.page("a", "b", [report.Section("empty", "text", [])]))
    assert page.text == "a a b"


@pytest.mark.parametrize(
    ("size", "expected"),
    [((40, 60), (40, 60)), ((1800, 3600), (450, 900)), ((4000, 1), (900, 1))],
)
def test_pictures_are_bounded_and_in_colour(size, expected):
    uri = report.embedded(picture(*size))
    data = np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
    assert image.shape[:2] == expected
    np.testing.assert_allclose(image.mean(axis=(0, 1)), (200, 0, 0), atol=4)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [1200, 500])  # Chromium's windows are not narrower
def test_a_browser_shows_it(width, tmp_path):
    """Every part is drawn, nothing is wider than the window, a click enlarges a picture."""
    script = """<script>
      const wide = document.documentElement.scrollWidth > innerWidth;
      const flat = [...document.querySelectorAll("svg, img, td, dd")].filter(
        (e) => e.checkVisibility() && !e.getBoundingClientRect().height);
      document.querySelector(".gallery button").click();
      const enlarged = document.querySelector("dialog[open] img");
      document.title = [wide, flat.length, enlarged.getBoundingClientRect().width].join();
    </script></body>"""
    path = tmp_path / "page.html"
    path.write_text(everything().replace("</body>", script))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        [CHROMIUM, *options, profile, "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    title = done.stdout.partition("<title>")[2].partition("</title>")[0]
    assert title == f"false,0,{0.96 * width:g}"
