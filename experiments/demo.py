"""What the weights that come with the package see: `make demo`."""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib.cbook
import numpy as np

from data_pipeline.images import decode
from data_pipeline.synthetic import scene
from experiments import predict
from experiments.parts import cli
from g_rmi.viz.draw import contact_sheet

# Rear Admiral Grace Hopper, by James S. Davis of the United States Navy: in the public domain.
PHOTOGRAPH = "grace_hopper.jpg"


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Finds people with the shipped weights, in a photograph of matplotlib's and in scenes."""

    out: Path = Path("runs/demo")  # Where pictures and results go.
    scenes: int = 5  # Synthetic scenes to draw.
    seed: int = 0  # Of the scenes.
    min_score: float = 0.05  # People who score lower, as boxes on tree trunks do, are not reported.


def main(argv: Sequence[str]) -> int:
    """The program."""
    arguments = cli.arguments(Arguments, argv, name="demo")
    pictures, found = arguments.out / "pictures", arguments.out / "found"
    pictures.mkdir(parents=True, exist_ok=True)
    source = matplotlib.cbook.get_sample_data(PHOTOGRAPH, asfileobj=False)
    names = [shutil.copy(source, pictures)]
    for i in range(arguments.scenes):
        random = np.random.default_rng((arguments.seed, i))
        names.append(str(pictures / f"scene_{i}.jpg"))
        cv2.imwrite(names[-1], scene(random, height=480, width=600)[0][..., ::-1])
    options = ["--out", str(found), "--overwrite", "--min-score", str(arguments.min_score)]
    status = predict.main([*map(str, names), *options])
    drawn = [decode((found / Path(name).name).read_bytes()) for name in names]
    sheet = arguments.out / "demo.jpg"
    cv2.imwrite(str(sheet), contact_sheet(drawn, columns=3, cell=(360, 450))[..., ::-1])
    print(f"look at {sheet}")
    return status


if __name__ == "__main__":
    cli.run(main)
