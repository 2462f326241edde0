"""Packs a data directory into ArrayRecord files that TFDS and grain read.

    python -m data_pipeline.prepare --data DIR --out OUT

The result is used like the original: `--data OUT`. Many processes or machines pack it together
through Apache Beam (`pip install apache-beam`), with the options of its runner; machines must see
DIR and OUT under the same paths:

    python -m data_pipeline.prepare --data DIR --out OUT --beam-options runner=FlinkRunner ...
"""

import contextlib
import importlib.util
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from data_pipeline.readers import read, splits_of
from data_pipeline.readers.records import find_prepared
from data_pipeline.schema import DataError
from g_rmi.files import check_directory, print_anything


def prepare(data: Path, out: Path, *, beam_options: Sequence[str] = ()) -> Path:
    """Builds the TFDS data set `coco_person` of a data directory; returns where its records lie.

    That is `out/coco_person/VERSION`. Without `beam_options` ("name=value"), Beam is not used. A
    DataError if `data` cannot be read, `out` already holds a prepared data set, or Beam is missing.
    """
    import tensorflow_datasets as tfds

    from data_pipeline.readers.tfds_builder import CocoPerson

    if existing := find_prepared(out):
        raise DataError(f"{existing} is already prepared; remove it or choose another --out")
    skeleton = read(data, splits_of(data)[-1]).skeleton  # of the smaller split
    builder = CocoPerson(skeleton=skeleton, data_dir=out.absolute(), file_format="array_record")
    config = tfds.download.DownloadConfig(
        manual_dir=data.absolute(), beam_options=_pipeline_options(beam_options)
    )
    tfds.disable_progress_bar()  # the builder has one
    with contextlib.redirect_stdout(io.StringIO()):  # which speaks of downloads
        builder.download_and_prepare(download_config=config)
    return Path(builder.data_path)


def _pipeline_options(options: Sequence[str]) -> Any:
    if not options:
        return None
    if importlib.util.find_spec("apache_beam") is None:
        raise DataError("beam_options: needs `pip install apache-beam`")
    from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
    from apache_beam.runners import create_runner

    pipeline = PipelineOptions(flags=[f"--{option}" for option in options])
    try:
        create_runner(pipeline.view_as(StandardOptions).runner or "DirectRunner")
    except ValueError as error:
        raise DataError(f"beam_options: {error}") from None
    return pipeline


def main(data: Path, out: Path, beam_options: tuple[str, ...] = ()) -> int:
    """Pack a data directory into a TFDS data set of ArrayRecord files.

    Args:
      data: Directory in COCO's layout, or another that can be trained on.
      out: Directory to write to; pass it as --data afterwards.
      beam_options: Work through Apache Beam, with these options of its pipeline, such as
        runner=DirectRunner direct_num_workers=4.
    """
    try:
        check_directory(out)
        print(f"prepared {prepare(data, out, beam_options=beam_options)}")
    except (DataError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    print_anything()
    sys.exit(tyro.cli(main, prog="python -m data_pipeline.prepare"))
