"""What a run has done so far, a line for each picture: a killed run goes on where it stopped."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class Journal:
    """Lines of JSON: the options first, then a record for each picture or frame.

    Each line is on its way to the disk before the next picture begins; one that a kill cut short
    is dropped when the file is opened again. Every host has a file of its own and reads them all.
    """

    def __init__(self, folder: Path, options: Json, *, host: int = 0):
        """Opens or starts a host's; a ValueError names a file that was made with other options."""
        # By name, frame (None for a picture) and stamp.
        self.records: dict[tuple, Json] = {}
        self._folder = folder
        self._options = json.loads(json.dumps(options))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / (f"journal-{host}.jsonl" if host else "journal.jsonl")
        length = self._read(path) if path.exists() else 0
        self.refresh()
        self._file = open(path, "ab")  # noqa: SIM115 (closed by the context)
        self._file.truncate(length)
        if not length:
            self._write(options)

    def refresh(self) -> None:
        """Takes in what all hosts have done by now."""
        for path in _files(self._folder):
            self._read(path)

    def find(self, name: str, frame: int | None, stamp: Sequence[int]) -> Json | None:
        """The record of a picture or frame of the file with this stamp."""
        return self.records.get((name, frame, *stamp))

    def add(self, record: Json) -> None:
        """Adds a record with at least "name", "frame" and "stamp"."""
        self.records[_key(record)] = record
        self._write(record)

    def _read(self, path: Path) -> int:
        """Takes in the whole lines of a file; returns how many bytes they are."""
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        try:
            options, *records = [json.loads(line) for line in whole.splitlines()] or [None]
            self.records |= {_key(record): record for record in records}
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path} is damaged; --overwrite starts anew") from None
        wanted = self._options
        saved = wanted if options is None else options
        changes = [
            f"{name} was {saved.get(name)!r}, is {wanted.get(name)!r}"
            for name in sorted(saved.keys() | wanted.keys())
            if saved.get(name) != wanted.get(name)
        ]
        if changes:
            raise ValueError(
                f"{path.parent} holds results of other options: {'; '.join(changes)} "
                "(--overwrite starts anew; or choose another --out)"
            )
        return len(whole)

    def _write(self, values: Json) -> None:
        self._file.write(json.dumps(values, allow_nan=False).encode() + b"\n")
        self._file.flush()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()


def has_journal(folder: Path) -> bool:
    """Whether an earlier run, of any host, has begun here."""
    return bool(_files(folder))


def remove_journals(folder: Path) -> None:
    """Forgets what earlier runs have done, on all hosts."""
    for path in _files(folder):
        path.unlink()


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("journal*.jsonl"))


def _key(record: Json) -> tuple:
    return record["name"], record["frame"], *record["stamp"]
