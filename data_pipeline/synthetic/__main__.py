"""Makes a synthetic data directory from the command line."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import cv2
import tyro
from rich.progress import MofNCompleteColumn, Progress

from data_pipeline import synthetic
from g_rmi.files import check_directory, check_file, print_anything, write_whole


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Draws synthetic people and writes them, with labels, in COCO's layout."""

    # Data directory to make. Default: the synthetic set's place in the user's cache.
    out: Path | None = None
    # Training images.
    train: Annotated[int, tyro.conf.arg(metavar="N")] = synthetic.DEFAULT_TRAIN
    val: Annotated[int, tyro.conf.arg(metavar="M")] = synthetic.DEFAULT_VAL  # Validation images.
    seed: int = 0  # Random seed.
    size: tuple[int, int] = synthetic.DEFAULT_SIZE  # Height and width of the images.
    # Folder of photographs without people to use as backgrounds; needs --out.
    backgrounds: Path | None = None
    workers: int | None = None  # Processes. Default: one per core.
    # Also write the first 36 training scenes as one image to this file.
    contact_sheet: Path | None = None


def main(args: Annotated[Arguments, tyro.conf.arg(name="")]) -> None:
    """Draws synthetic people and writes them, with labels, in COCO's layout."""
    shared = {"seed": args.seed, "size": args.size}
    options = {"train_images": args.train, "val_images": args.val, **shared}
    try:
        if args.backgrounds and not args.out:
            raise ValueError("--backgrounds DIR needs --out DIR")
        out, sheet_file = args.out or synthetic.default_directory(**options), args.contact_sheet
        check_directory(out)
        if sheet_file:
            check_file(sheet_file)
            if not cv2.haveImageWriter(str(sheet_file)):
                raise ValueError(f"--contact-sheet {sheet_file}: no picture's ending, such as .png")
        with Progress(*Progress.get_default_columns(), MofNCompleteColumn()) as bar:
            total = args.train + args.val
            task = bar.add_task("synthetic scenes", total=total)

            def progress(done: int, _: int) -> None:
                bar.update(task, completed=done)

            behind = {"backgrounds": args.backgrounds}
            synthetic.make(out, workers=args.workers, progress=progress, **behind, **options)
            progress(total, total)
        print(out)
        if sheet_file:
            sheet = synthetic.contact_sheet(**shared, **behind)
            whole, encoded = cv2.imencode(sheet_file.suffix, sheet[..., ::-1])
            if not whole:
                raise OSError(f"{sheet_file} could not be written")
            write_whole(sheet_file, encoded.tobytes())
            print(sheet_file)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    print_anything()
    tyro.cli(main, prog="python -m data_pipeline.synthetic", config=(tyro.conf.OmitArgPrefixes,))
