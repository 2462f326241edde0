"""Packs a data directory in COCO's layout into ArrayRecord files that TFDS and grain read.

    python -m data_pipeline.prepare --data DIR --out OUT

The result is used like the original: `--data OUT`.
"""

import sys
from pathlib import Path

import tyro

from data_pipeline.coco import find_splits
from data_pipeline.prepared import find_prepared
from data_pipeline.schema import DataError


def prepare(data: Path, out: Path) -> Path:
    """Builds the TFDS data set `coco_person` of a data directory.

    Args:
      data: Directory in a layout of `data_pipeline.coco`.
      out: TFDS data directory; the records go to `out/coco_person/VERSION`.

    Returns:
      The directory of the records.

    Raises:
      DataError: `data` cannot be read, or `out` already holds a prepared data set.
    """
    import tensorflow_datasets as tfds

    from data_pipeline.coco_person import CocoPerson

    find_splits(data)
    if existing := find_prepared(out):
        raise DataError(f"{existing} is already prepared; remove it or choose another --out")
    builder = CocoPerson(data_dir=out, file_format="array_record")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=data.absolute())
    )
    return Path(builder.data_path)


def main(data: Path, out: Path) -> int:
    """Pack a data directory in COCO's layout into a TFDS data set of ArrayRecord files.

    Args:
      data: Directory in COCO's layout.
      out: Directory to write to; pass it as --data afterwards.
    """
    try:
        print(f"prepared {prepare(data, out)}")
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
