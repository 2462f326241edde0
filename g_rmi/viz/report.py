"""A report as one HTML page that needs nothing else: what it is made of in, a string out.

Text is escaped, pictures are embedded as JPEG of bounded size, plots are SVG elements. A click on a
picture enlarges it, by the page's only script.
"""

import base64
import html
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from g_rmi.viz.table import number

LONGEST_SIDE = 900  # Of an embedded picture, in pixels.
JPEG_QUALITY = 82


class Numbers(NamedTuple):
    """Numbers large and side by side; -1 stands for none."""

    values: Mapping[str, float]


class Table(NamedTuple):
    """A table; the first column is text, the others are right-aligned."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


class Plots(NamedTuple):
    """Plots by title, `<svg>` elements such as `g_rmi.viz.svg` makes."""

    plots: Mapping[str, str]


class Picture(NamedTuple):
    """An RGB picture and what to say of it."""

    image: UInt8[np.ndarray, "H W 3"]
    caption: str


class Gallery(NamedTuple):
    """Pictures that a click enlarges."""

    title: str
    pictures: Sequence[Picture]


class Folded(NamedTuple):
    """Text as it is, behind its title."""

    title: str
    text: str


class Section(NamedTuple):
    """A part of the page: a heading, a paragraph if there is something to say, and the rest."""

    title: str
    text: str
    parts: Sequence[Numbers | Table | Plots | Gallery | Folded]


def page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The page as HTML: title, a line below it, and the sections that have parts."""
    body = "".join(_section(section) for section in sections if section.parts)
    return _PAGE.format(
        title=html.escape(title), subtitle=html.escape(subtitle), style=_STYLE, body=body
    )


def _section(section: Section) -> str:
    text = f"<p>{html.escape(section.text)}</p>" if section.text else ""
    parts = "\n".join(map(_part, section.parts))
    return f"<section>\n<h2>{html.escape(section.title)}</h2>\n{text}\n{parts}\n</section>\n"


def _part(part: Numbers | Table | Plots | Gallery | Folded) -> str:
    match part:
        case Numbers(values):
            pairs = ((html.escape(name), number(value)) for name, value in values.items())
            tiles = "".join(f"<div><dt>{n}</dt><dd>{v}</dd></div>" for n, v in pairs)
            return f'<dl class="numbers">{tiles}</dl>'
        case Table(header, rows):
            head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in header)
            body = "".join(f"<tr>{_cells(row)}</tr>\n" for row in rows)
            table = f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody>\n</table>"
            return f'<div class="table">{table}</div>'
        case Plots(plots):
            titled = ((html.escape(title), plot) for title, plot in plots.items())
            figures = (f"<figure><figcaption>{t}</figcaption>{p}</figure>" for t, p in titled)
            return f'<div class="plots">{"".join(figures)}</div>'
        case Gallery(title, pictures):
            figures = "".join(map(_figure, pictures))
            return f'<h3>{html.escape(title)}</h3>\n<div class="gallery">{figures}</div>'
        case Folded(title, text):
            summary = f"<summary>{html.escape(title)}</summary>"
            return f"<details>{summary}<pre>{html.escape(text)}</pre></details>"


def _cells(row: Sequence[str]) -> str:
    first, *others = map(html.escape, row)
    return f'<th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in others)


def _figure(picture: Picture) -> str:
    caption = html.escape(picture.caption)
    image = f'<img src="{embedded(picture.image)}" alt="{caption}" loading="lazy">'
    button = f'<button type="button" title="Enlarge">{image}</button>'
    return f"<figure>{button}<figcaption>{caption}</figcaption></figure>\n"


def embedded(image: UInt8[np.ndarray, "H W 3"]) -> str:
    """An RGB picture as a JPEG data URI, its longest side at most `LONGEST_SIDE`."""
    scale = LONGEST_SIDE / max(image.shape[:2])
    if scale < 1:
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


_STYLE = """
:root { color-scheme: light; --ink: #1f2328; --soft: #57606a; --line: #d8dee4; --tile: #f6f8fa; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem clamp(1rem, 4vw, 2.5rem) 4rem;
  color: var(--ink); background: #fff; font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; padding-top: 1rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { max-width: 46rem; color: var(--soft); margin: .25rem 0 1rem; overflow-wrap: anywhere; }
.numbers { display: grid; gap: .5rem; grid-template-columns: repeat(auto-fill, minmax(6rem, 1fr));
  margin: 1rem 0; }
.numbers div { background: var(--tile); border-radius: .4rem; padding: .5rem .75rem; }
dt { color: var(--soft); font-size: .8rem; }
dd { margin: 0; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.table { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .75rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; font-weight: normal; }
th:first-child { text-align: left; padding-left: 0; }
thead th { color: var(--soft); font-weight: 600; white-space: normal; vertical-align: bottom; }
figure { margin: 0; min-width: 0; }
figcaption { font-size: .85rem; color: var(--soft); overflow-wrap: anywhere; }
.plots { display: grid; gap: 1.5rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
.plots figcaption { color: var(--ink); font-weight: 600; margin-bottom: .25rem; }
.plots svg { width: 100%; max-width: 34rem; height: auto; display: block; }
.gallery { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 16rem), 1fr)); }
button { all: unset; cursor: zoom-in; display: block; width: 100%; }
button:focus-visible { outline: 3px solid #1f6feb; }
.gallery img { width: 100%; display: block; border-radius: .3rem; }
dialog { border: 0; padding: 0; max-width: none; max-height: none; background: none;
  outline: none; cursor: zoom-out; }
dialog::backdrop { background: rgb(0 0 0 / .85); }
dialog img { width: 96vw; height: 94vh; object-fit: contain; display: block; }
details { margin: 1rem 0; }
summary { cursor: pointer; }
pre { font-size: .8rem; line-height: 1.45; background: var(--tile); border-radius: .4rem;
  padding: 1rem; overflow-x: auto; }
@media (max-width: 34rem) { table { font-size: .8rem; } th, td { padding: .25rem; } }
"""
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p>{subtitle}</p>
</header>
<main>
{body}</main>
<dialog aria-label="Enlarged picture"></dialog>
<script>
const dialog = document.querySelector("dialog");
for (const button of document.querySelectorAll(".gallery button"))
  button.onclick = () => {{
    dialog.replaceChildren(button.firstElementChild.cloneNode());
    dialog.showModal();
  }};
dialog.onclick = () => dialog.close();
</script>
</body>
</html>
"""
