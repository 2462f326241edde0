"""People as a table, `people.csv`: for spreadsheets, pandas, R."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from g_rmi.evaluation.results import Result, columns_of
from g_rmi.files import write_whole

FIRST = ("file_name", "frame", "time", "track_id")  # empty where a result has none


def write_table(
    path: Path, results: Sequence[Result], names: Sequence[str], *, min_score: float
) -> None:
    """Writes results, each a row with the digits that they have as JSON; see `columns_of`.

    Raises:
      OSError: It cannot be written; nothing is left behind.
    """
    columns = columns_of(results, names, min_score=min_score, first=FIRST)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(columns)
    rows.writerows(zip(*columns.values()))
    write_whole(path, text.getvalue())
