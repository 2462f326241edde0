"""Tables of text: as Markdown, and on the terminal. Columns of numbers are right-aligned."""

import re
from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

WIDTH = 140  # Columns of a line on the terminal: cut lines are worse than long ones.

_NUMBER = re.compile(r"-?|[-+]?\d[\d,]*(\.\d+)?(e[-+]\d+)?")
"""What a column of numbers may hold; an empty cell or a dash stands for none."""

Rows = Iterable[Sequence[str]]


def number(value: float) -> str:
    """Three decimals; a dash for COCO's -1, which means that there is nothing to measure."""
    return "-" if value == -1 else f"{value:.3f}"


def number_rows(
    numbers: Mapping[str, Mapping[str, float]], columns: Sequence[str]
) -> list[list[str]]:
    """The cells of a row for each name: the name, and the numbers of these columns."""
    return [[name, *(number(row[column]) for column in columns)] for name, row in numbers.items()]


def markdown(header: Sequence[str], rows: Rows) -> str:
    """A Markdown table that also reads well as plain text; the first column is text."""
    head, *body = [[cell.replace("|", "\\|") for cell in line] for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    right = _are_numbers(header, body)
    ruler = ["-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, right)]
    lines = [
        [cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(line, widths, right)]
        for line in (head, ruler, *body)
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def show(header: Sequence[str], rows: Rows, *, title: str = "", fold: bool = False) -> None:
    """Prints a table; the first column is text.

    If asked to, folds long cells, but for the first column's, at the terminal's width, even if that
    is less than `WIDTH`.
    """
    body = list(rows)
    table = Table(title=escape(title) or None, title_justify="left", box=box.SIMPLE)
    for i, (name, right) in enumerate(zip(header, _are_numbers(header, body))):
        table.add_column(name, justify="right" if right else "left", no_wrap=i == 0)
    for row in body:
        table.add_row(*map(escape, row))
    console = Console()
    if not (fold and console.is_terminal):
        console.width = max(console.width, WIDTH)
    console.print(table)


def _are_numbers(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[bool]:
    """Whether each column holds numbers."""
    columns = [[row[i] for row in rows] for i in range(len(header))]
    return [i > 0 and all(map(_NUMBER.fullmatch, cells)) for i, cells in enumerate(columns)]
