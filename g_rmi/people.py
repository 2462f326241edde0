"""People in pictures, on the host, and the forms in which they are handed on."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8
from PIL import Image, ImageOps

from g_rmi.skeleton import COCO, Skeleton


class Person(NamedTuple):
    """One of `People`."""

    keypoints: Float[np.ndarray, "K 2"]
    keypoint_scores: Float[np.ndarray, " K"]
    score: float
    box: Float[np.ndarray, " 4"]
    visibility: Float[np.ndarray, " K"] | None = None
    class_name: str | None = None  # where there are several


@dataclasses.dataclass(frozen=True, eq=False)
class People:
    """People in one picture or many, on the host, one row each.

    `len(people)` is how many, `people[0]` the first, `people[:2]` or `people[people.scores > 0.5]`
    are some of them, and a loop goes from person to person.

    Attributes:
      keypoints: In the image's own pixels.
      keypoint_scores: See `g_rmi.types.Poses`.
      scores: What ranks them.
      boxes: The `(x0, y0, x1, y1)` they were found in.
      skeleton: Meaning of the K axis.
      visibility: Probability that one sees each joint, that nothing hides it; None of networks that
        do not say.
      classes: Whose name is each one's, where the skeleton has several; the joints of the others
        are 0, and so are their scores. None for people, or whatever else there is one class of.
    """

    keypoints: Float[np.ndarray, "N K 2"]
    keypoint_scores: Float[np.ndarray, "N K"]
    scores: Float[np.ndarray, " N"]
    boxes: Float[np.ndarray, "N 4"]
    skeleton: Skeleton = COCO
    visibility: Float[np.ndarray, "N K"] | None = None
    classes: Shaped[np.ndarray, " N"] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: Any) -> Any:
        columns = self.keypoints, self.keypoint_scores, self.scores, self.boxes
        points, sure, score, box = (column[index] for column in columns)
        visibility = None if self.visibility is None else self.visibility[index]
        if np.ndim(score) == 0:
            name = None if self.classes is None else str(self.classes[index])
            return Person(points, sure, float(score), box, visibility, name)
        classes = None if self.classes is None else self.classes[index]
        return People(points, sure, score, box, self.skeleton, visibility, classes)

    def __iter__(self) -> Iterator[Person]:
        return (self[i] for i in range(len(self)))

    def of_class(self, name: str) -> "People":
        """Those of one class, with its joints alone.

        Raises:
          ValueError: There is no such class.
        """
        blocks = self.skeleton.blocks
        if name not in blocks:
            known = ", ".join(blocks) or "none"
            raise ValueError(f"no class {name!r}; there are: {known}")
        own = self[self.classes == name]
        block, seen = blocks[name], own.visibility
        points, scores = own.keypoints[:, block], own.keypoint_scores[:, block]
        seen = None if seen is None else seen[:, block]
        return People(points, scores, own.scores, own.boxes, self.skeleton.of_class(name), seen)

    # What follows imports when it is called: arrays, frames and records come first.

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the K joints."""
        return self.skeleton.names

    def draw(self, image: Any, *, min_score: float = 0.3) -> UInt8[np.ndarray, "H W 3"]:
        """The people, their boxes and scores on a copy of their picture, uint8 RGB [H, W, 3].

        The picture is such an array or one of PIL's, a ValueError if it is not.

        Joints that score lower than `min_score` are not drawn, those that are rather hidden are
        hollow. See `g_rmi.viz.draw.draw_people` for more options.
        """
        from g_rmi.viz.draw import draw_people, likelier

        if isinstance(image, Image.Image):
            image = upright(image)
        if getattr(image, "dtype", None) != np.uint8 or image.shape[2:] != (3,):
            raise ValueError(
                f"a picture must be uint8 RGB [H, W, 3] or one of PIL's, got {image!r:.80}"
            )
        options: Any = {"skeleton": self.skeleton, "min_score": min_score}
        options["classes"] = self.classes
        options["visibility"] = likelier(self.visibility)
        columns = self.keypoints, self.keypoint_scores, self.scores, self.boxes
        return draw_people(image, *columns, **options)

    def to_coco(self, image_id: int = 1) -> list[dict[str, Any]]:
        """COCO's results, as `predict` writes them: keypoints with two decimals, a `bbox` each.

        Of several classes, each has its own keypoints alone, its `category_id` and `category_name`.
        And the joints' `visibility`, if it is known.
        """
        from g_rmi.evaluation.results import box_results, keypoint_results

        if self.classes is not None:
            rows: dict[int, dict[str, Any]] = {}
            for each in self.skeleton.classes:
                name = {"category_id": each.id, "category_name": each.name}
                found = self.of_class(each.name).to_coco(image_id)
                places = np.flatnonzero(self.classes == each.name).tolist()
                rows |= {row: entry | name for row, entry in zip(places, found)}
            return [rows[row] for row in sorted(rows)]
        ids = [image_id] * len(self.scores)
        columns = self.keypoints, self.keypoint_scores, self.scores, self.visibility
        poses = keypoint_results(ids, *columns)
        boxes = box_results(ids, self.boxes, self.scores)
        return [pose | {"bbox": box["bbox"]} for pose, box in zip(poses, boxes)]

    def columns(self, *, min_score: float = 0.3) -> dict[str, list]:
        """Columns of a table with a row for each person, for `pandas.DataFrame` or `polars`'.

        The score, `bbox_x`, `bbox_y`, `bbox_width`, `bbox_height`, and of each joint `NAME_x`,
        `NAME_y`, `NAME_score` and, if it is known, `NAME_visibility`; x, y and visibility are None
        where the joint scores lower than `min_score`. Of several classes also the `category_name`;
        what only others have is None.
        """
        from g_rmi.evaluation.results import columns_of

        first = [] if self.classes is None else ["category_name"]
        options: Any = {"visibility": self.visibility is not None, "first": first}
        return columns_of(self.to_coco(), self.skeleton, min_score=min_score, **options)

    def to_supervision(self, *, min_score: float = 0.3) -> Any:
        """A `supervision.KeyPoints`, for its annotators; joints that score lower are not visible.

        Boxes are in `.data["xyxy"]`. Raises an ImportError without `pip install supervision`.
        """
        try:
            import supervision
        except ModuleNotFoundError:
            raise ImportError("people.to_supervision() needs `pip install supervision`") from None

        return supervision.KeyPoints(
            xy=self.keypoints.astype(np.float32),
            class_id=self._class_numbers(),
            keypoint_confidence=self.keypoint_scores.astype(np.float32),
            detection_confidence=self.scores.astype(np.float32),
            visible=self.keypoint_scores >= min_score,
            data={"xyxy": self.boxes.astype(np.float32)},
        )

    def _class_numbers(self) -> Int[np.ndarray, " N"]:
        """In the order of the skeleton's."""
        if self.classes is None:
            return np.zeros(len(self.scores), int)
        return np.array([list(self.skeleton.blocks).index(name) for name in self.classes], int)


def upright(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    """A picture of PIL's as RGB: turned as its EXIF data say, transparency on white, 16 bits as 8.

    Raises:
      ValueError: Its values have no known range, or it cannot be decoded.
    """
    if image.mode in ("I", "F"):
        raise ValueError(
            f"a picture must have 8 or 16 bits a channel, got PIL's mode {image.mode}; "
            "scale it to 0..255 and convert it to RGB"
        )
    if image.mode.startswith("I;16"):
        shades = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        shades.info = image.info
        image = shades
    with contextlib.suppress(Exception):  # of metadata that are damaged, the pixels are not
        image = ImageOps.exif_transpose(image)
    try:
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise ValueError(f"the picture, {image!r:.80}, cannot be decoded: {error}") from None
