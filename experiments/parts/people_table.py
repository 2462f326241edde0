"""People as a table, `people.csv`: for spreadsheets, pandas, R."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from g_rmi.evaluation.results import Result, columns_of
from g_rmi.files import write_whole
from g_rmi.skeleton import Skeleton

FIRST = ("file_name", "frame", "time", "track_id")  # empty where a result has none


def write_table(
    path: Path,
    results: Sequence[Result],
    skeleton: Skeleton,
    *,
    min_score: float,
    visibility: bool = False,
) -> None:
    """Writes results, each a row with the digits that they have as JSON; see `columns_of`.

    Raises:
      OSError: It cannot be written; nothing is left behind.
    """
    text = io.StringIO()
    options: Any = {"min_score": min_score, "visibility": visibility}
    write_rows(text, results, skeleton, header=True, **options)
    write_whole(path, text.getvalue())


def write_rows(
    file: TextIO,
    results: Sequence[Result],
    skeleton: Skeleton,
    *,
    min_score: float,
    visibility: bool = False,
    header: bool,
) -> None:
    """Writes the rows of some results, below the names of the columns if there is a `header`."""
    options: Any = {"min_score": min_score, "visibility": visibility}
    first = (*FIRST, "category_name") if skeleton.classes else FIRST
    columns = columns_of(results, skeleton, first=first, **options)
    rows = csv.writer(file, lineterminator="\n")
    if header:
        rows.writerow(columns)
    rows.writerows(zip(*columns.values()))
