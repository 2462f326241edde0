"""What is labelled in a data set, and COCO's numbers of what was found there, from pycocotools.

hotcoco, pycocotools' evaluation in Rust, gives the same numbers sooner where it is installed and
asked for ("faster"). pycocotools stays the judge, and alone says who was matched with whom.
"""

import contextlib
import functools
import importlib.util
import io
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from pycocotools.coco import COCO as CocoIndex
from pycocotools.cocoeval import COCOeval

from g_rmi.config import nearest
from g_rmi.evaluation.results import ImageIds, Kind, Result, check_result, keypoints_of, of_people
from g_rmi.geometry import from_xywh
from g_rmi.skeleton import COCO, Skeleton
from g_rmi.types import PERSON

KEYPOINT_METRICS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
BOX_METRICS = (
    *("box_AP", "box_AP50", "box_AP75", "box_APS", "box_APM", "box_APL"),
    *("box_AR1", "box_AR10", "box_AR100", "box_ARS", "box_ARM", "box_ARL"),
)

Backend = Literal["pycocotools", "faster"]
Evaluation = Any
"""pycocotools' COCOeval, or that of hotcoco, which is alike but no subclass."""


class Truth:
    """The labelled people of a data set: made once, then handed to all that evaluate.

    Attributes:
      people: COCO's annotations of people, checked and completed copies; P of them. Their ids are
        1, 2, ... (pycocotools takes a match with id 0 for none), `original_id` is the file's.
        People without keypoints get zeros, which COCO's evaluation passes over as it does crowds.
      skeleton: Keypoint set; its sigmas define the OKS.
      backend: Who computes the numbers.
      image_ids: Images to evaluate, ascending. Results of the others do not count.
    """

    def __init__(
        self,
        content: Mapping[str, Any],
        skeleton: Skeleton = COCO,
        backend: Backend = "pycocotools",
        *,
        image_ids: ImageIds | None = None,
    ):
        """Takes the people of what a COCO annotation file holds, which is left as it is.

        Evaluates all images unless `image_ids` names some.

        Raises:
          ValueError: A field is missing or malformed, `image_ids` names an image that is not there,
            or hotcoco is asked for and not installed.
        """
        require(backend)
        for field in ("images", "annotations"):
            if field not in content:
                raise ValueError(f"not what a COCO annotation file holds: it has no {field!r}")
        self.skeleton, self.backend = skeleton, backend
        people = [_person(annotation, len(skeleton)) for annotation in content["annotations"]]
        self.people = of_people(people)
        for i, person in enumerate(self.people, 1):
            person["original_id"], person["id"] = person["id"], i
        self._images = [{"id": image["id"]} for image in content["images"]]
        self._known = {image["id"] for image in self._images}
        wanted = self._known if image_ids is None else np.asarray(image_ids).tolist()
        self._check_images(wanted, "image_ids")
        self.image_ids = sorted(wanted)

    def with_people(self, people: Iterable[Mapping[str, Any]]) -> "Truth":
        """The same images with other people, who get new ids."""
        content = {"images": self._images, "annotations": list(people)}
        return Truth(content, self.skeleton, self.backend, image_ids=self.image_ids)

    def on_images(self, image_ids: ImageIds) -> "Truth":
        """The same people, evaluated on these images; a ValueError names one that is not there."""
        people = [{**person, "id": person["original_id"]} for person in self.people]
        content = {"images": self._images, "annotations": people}
        return Truth(content, self.skeleton, self.backend, image_ids=image_ids)

    @functools.cached_property
    def keypoints(self) -> Float[np.ndarray, "P K 3"]:
        """Joints of all people: x and y in the image's pixels, COCO's v."""
        return keypoints_of(self.people, len(self.skeleton))

    @functools.cached_property
    def boxes(self) -> Float[np.ndarray, "P 4"]:
        """Boxes `(x0, y0, x1, y1)` of all people."""
        boxes = np.array([person["bbox"] for person in self.people], np.float64)
        return from_xywh(boxes.reshape(-1, 4))

    @functools.cached_property
    def areas(self) -> Float[np.ndarray, " P"]:
        """Annotated areas of all people in square pixels."""
        return np.array([person["area"] for person in self.people], np.float64)

    def rows(self, image_id: int) -> list[int]:
        """Rows of an image's people whose poses are looked for: some joint labelled, no crowd."""
        return self._rows.get(image_id, [])

    @functools.cached_property
    def _rows(self) -> dict[int, list[int]]:
        rows = defaultdict(list)
        for row, person in enumerate(self.people):
            if person["num_keypoints"] and not person["iscrowd"]:
                rows[person["image_id"]].append(row)
        return rows

    def evaluate(
        self,
        results: Sequence[Result],
        kind: Kind,
        *,
        thresholds: Sequence[float] | None = None,
        backend: Backend | None = None,
    ) -> Evaluation:
        """Runs COCO's evaluation of poses or boxes, up to and including `accumulate`.

        Entries of other categories are left out. The thresholds, of OKS or IoU, are COCO's .5 to
        .95 by default, the backend is the truth's own; the answer of "faster" has the arrays
        (`eval`) but not the matches.

        Raises:
          ValueError: A result is malformed, or names an image that is not there.
        """
        for i, entry in enumerate(results):
            check_result(entry, kind, f"result {i}", joints=len(self.skeleton))
        # Exactly these fields: pycocotools would take a pose's area from a stray `bbox`.
        fields = ("image_id", "category_id", kind, "score")
        entries = [{field: entry[field] for field in fields} for entry in of_people(results)]
        self._check_images((entry["image_id"] for entry in entries), "the results")
        with _silence():
            evaluation = self._evaluation(backend or self.backend, entries, kind)
            evaluation.params.catIds = [PERSON]
            evaluation.params.imgIds = self.image_ids
            if kind == "keypoints":
                evaluation.params.kpt_oks_sigmas = np.asarray(self.skeleton.sigmas)
            if thresholds is not None:
                evaluation.params.iouThrs = np.asarray(thresholds)
            evaluation.evaluate()
            evaluation.accumulate()
        return evaluation

    def _evaluation(self, backend: Backend, entries: list[Result], kind: Kind) -> Evaluation:
        """A backend's evaluation of the people as it wants them; it writes `ignore` into them."""
        category = {"id": PERSON, "name": "person"}
        content = {"images": self._images, "annotations": self.people, "categories": [category]}
        nothing = content | {"annotations": []}
        if backend == "faster":
            import hotcoco

            index = hotcoco.COCO(content)
            found = index.load_res(entries) if entries else hotcoco.COCO(nothing)
            return hotcoco.COCOeval(index, found, kind)
        index = CocoIndex()
        index.dataset = content
        index.createIndex()
        return COCOeval(index, index.loadRes(entries) if entries else CocoIndex(), kind)

    def _check_images(self, image_ids: Iterable[int], what: str) -> None:
        if unknown := sorted(set(image_ids) - self._known):
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            raise ValueError(
                f"{what} name image {unknown[0]}{more}, which the ground truth has not"
            )


class Match(NamedTuple):
    """Who was matched with whom in one picture: P people, D detections, at each of T thresholds.

    Attributes:
      image: Its id.
      people: Rows among the truth's people.
      counts: The person is looked for: no crowd and, of poses, some joint labelled.
      detections: Indices among the results of people; COCO looks at the best 20 poses, 100 boxes.
      found: Index of the detection matched with each person; -1 for none.
      right: The detection is matched with somebody, even if that person does not count.
    """

    image: int
    people: Int[np.ndarray, " P"]
    counts: Bool[np.ndarray, " P"]
    detections: Int[np.ndarray, " D"]
    found: Int[np.ndarray, "T P"]
    right: Bool[np.ndarray, "T D"]


def matches(evaluation: Evaluation) -> Iterator[Match]:
    """The matches of every picture with people or detections, from pycocotools' evaluation."""
    # The images of the first area range, "all".
    for image in evaluation.evalImgs[: len(evaluation.params.imgIds)]:
        if image is not None:
            yield Match(
                image=int(image["image_id"]),
                people=np.array(image["gtIds"], int) - 1,
                counts=~np.array(image["gtIgnore"], bool),
                detections=np.array(image["dtIds"], int) - 1,
                found=image["gtMatches"].astype(int) - 1,
                right=image["dtMatches"] > 0,
            )


def evaluate_keypoints(truth: Truth, results: Sequence[Result]) -> dict[str, float]:
    """COCO's ten numbers of poses as `keypoint_results` makes them, errors as `Truth.evaluate`'s.

    `KEYPOINT_METRICS` by name; as COCO does, -1 stands where there is nothing to find (APM without
    any medium-sized person).
    """
    return numbers(truth.evaluate(results, "keypoints"))


def evaluate_boxes(truth: Truth, results: Sequence[Result]) -> dict[str, float]:
    """COCO's twelve numbers of boxes as `box_results` makes them: likewise, `BOX_METRICS`."""
    return numbers(truth.evaluate(results, "bbox"))


def precision_recall(evaluation: Evaluation) -> dict[str, Float[np.ndarray, " R"]]:
    """The curves behind AP: precision at recalls 0, .01, ... 1, all sizes, most detections.

    For the thresholds ".5", ".75", ".95" and their "mean" over all ten; -1 everywhere if there is
    nobody to find.
    """
    precision = evaluation.eval["precision"][:, :, 0, 0, -1]
    rows = {f"{t:.2g}": precision[i] for i, t in enumerate(evaluation.params.iouThrs)}
    curves = {name.lstrip("0"): rows[name] for name in ("0.5", "0.75", "0.95")}
    return {**curves, "mean": precision.mean(axis=0)}


def numbers(evaluation: Evaluation) -> dict[str, float]:
    """What pycocotools' `summarize` prints, by name."""
    names = KEYPOINT_METRICS if evaluation.params.iouType == "keypoints" else BOX_METRICS
    with _silence():
        evaluation.summarize()
    # pycocotools' precision is tp / (tp + fp + 2^-52): perfection may come as 1 - 2^-52.
    return {name: round(float(x), 12) for name, x in zip(names, evaluation.stats, strict=True)}


def average_precision(evaluation: Evaluation) -> Float[np.ndarray, " T"]:
    """AP at each threshold, all sizes, most detections; -1 if there is nobody to find."""
    return evaluation.eval["precision"][:, :, 0, 0, -1].mean(axis=1)


def require(backend: Backend) -> None:
    """Raises a ValueError if the backend is not installed."""
    if backend == "faster" and importlib.util.find_spec("hotcoco") is None:
        raise ValueError("hotcoco is not installed: pip install hotcoco")


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without what backends print, and what hotcoco says of thresholds or sigmas not COCO's."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "hotcoco: (kpt_oks_sigmas|iou_thrs) differ", UserWarning)
        yield


def _person(annotation: Mapping[str, Any], joints: int) -> dict[str, Any]:
    """A copy of one annotation with everything that pycocotools reads."""
    where = f"annotation {annotation.get('id')}"
    for field in ("id", "image_id", "category_id", "bbox", "area"):
        if field not in annotation:
            raise ValueError(f"{where} has no {field!r}{nearest(field, annotation)}")
    person: dict[str, Any] = {"iscrowd": 0, **annotation}
    if person["category_id"] == PERSON:
        keypoints = person.setdefault("keypoints", [0] * (3 * joints))
        if len(keypoints) != 3 * joints:
            raise ValueError(
                f"{where} has {len(keypoints)} keypoint numbers, not 3 x {joints} as the skeleton"
            )
        person.setdefault("num_keypoints", sum(v > 0 for v in keypoints[2::3]))
    return person
