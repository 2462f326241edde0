"""Plots: well-formed, with the right words and lengths, the same text every time."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np

from g_rmi.viz import svg

SVG = "{http://www.w3.org/2000/svg}"


def read(text):
    assert text.startswith("<svg")
    assert "<style" not in text
    assert text.count("http") == 2  # the names of two formats
    return ElementTree.fromstring(text)


def words(element):
    return {text.text for text in element.iter(f"{SVG}text")}


def widths(element, colour):
    """Of the filled rectangles of a colour, in the order they were drawn."""
    found = []
    for path in element.iter(f"{SVG}path"):
        if f"fill: {colour}" in path.get("style", ""):
            x = [float(pair.split()[0]) for pair in re.findall(r"[ML] ([-\d. ]+)", path.get("d"))]
            found.append(max(x) - min(x))
    return found


def test_lines():
    curves = {"a < b": (np.arange(3.0), np.arange(3.0)), "c": ([0, 2], [0.1, 10])}
    text = svg.line_plot(curves, x="step", y="loss", log=True)
    assert {"a < b", "c", "step", "loss"} <= words(read(text))
    assert text == svg.line_plot(curves, x="step", y="loss", log=True)
    alone = svg.line_plot({"c": curves["c"]}, x="step", y="loss")
    assert "c" not in words(read(alone))  # one curve needs no legend


def test_gains_are_bars_from_the_start():
    element = read(svg.gain_plot(0.2, {"miss": 0.6, "swap": 0.3, "score": 0.2}, x="AP"))
    assert {"miss", "0.600", "swap", "0.300", "score", "0.200", "AP"} <= words(element)
    miss, swap, score = widths(element, svg.COLOURS[0])
    np.testing.assert_allclose([swap / miss, score / miss], [0.25, 0], atol=1e-3)


def test_shares_fill_their_bar():
    parts = {"good": "#00aa00", "miss": "#aa0000"}
    rows = {"nose": (0.25, 0.75), "wrist": (0.5, 0.5), "nobody": (0.0, 0.0)}
    element = read(svg.share_plot(rows, parts, x="share"))
    assert {*rows, *parts, "share"} <= words(element)
    good, miss = (np.array(widths(element, colour)[:3]) for colour in parts.values())
    np.testing.assert_allclose(good / (good + miss).max(), [0.25, 0.5, 0], atol=1e-3)
    np.testing.assert_allclose(miss / (good + miss).max(), [0.75, 0.5, 0], atol=1e-3)
