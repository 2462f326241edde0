"""What a run has done so far, a line for each picture: a killed run goes on where it stopped."""

import json
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class Journal:
    """Lines of JSON: the options first, then a record for each picture or frame.

    Each line is on its way to the disk before the next picture begins; one that a kill cut short
    is dropped when the file is opened again.

    Attributes:
      records: By name and frame (None for a picture); the newest of each.
    """

    def __init__(self, path: Path, options: Json, *, overwrite: bool = False):
        """Opens or starts a journal.

        Args:
          path: The file.
          options: All that the records depend on.
          overwrite: Start anew.

        Raises:
          ValueError: The file was made with other options, which the message names, or is none.
        """
        self.records: dict[tuple[str, int | None], Json] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_bytes() if path.exists() and not overwrite else b""
        whole = text[: text.rfind(b"\n") + 1]
        try:
            first, *records = [json.loads(line) for line in whole.splitlines()] or [None]
            for record in records:
                self.records[record["name"], record["frame"]] = record
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path} is damaged; --overwrite starts anew") from None
        if first is not None:
            _check_same(path, first, json.loads(json.dumps(options)))
        self._file = open(path, "ab")  # noqa: SIM115 (closed by the context)
        self._file.truncate(len(whole))
        if first is None:
            self._write(options)

    def add(self, record: Json) -> None:
        """Adds a record with at least "name" and "frame"."""
        self.records[record["name"], record["frame"]] = record
        self._write(record)

    def _write(self, values: Json) -> None:
        self._file.write(json.dumps(values, allow_nan=False).encode() + b"\n")
        self._file.flush()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()


def _check_same(path: Path, saved: Json, wanted: Json) -> None:
    names = sorted(saved.keys() | wanted.keys())
    different = [n for n in names if saved.get(n) != wanted.get(n)]
    if different:
        changes = (f"{n} was {saved.get(n)!r}, is {wanted.get(n)!r}" for n in different)
        raise ValueError(
            f"{path.parent} holds results of other options: {'; '.join(changes)} "
            "(--overwrite starts anew; or choose another --out)"
        )
