"""Composes people, things and a background into a picture with COCO's labels."""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from data_pipeline.synthetic.backdrop import Picture, backdrop
from data_pipeline.synthetic.body import Sculptor, View, cloth_colour, dress
from data_pipeline.synthetic.pose import Build, Figure, sample_build, sample_figure, turn
from data_pipeline.synthetic.props import accompany, obstruct
from data_pipeline.synthetic.render import OVERSAMPLE, Canvas
from g_rmi.skeleton import COCO
from g_rmi.types import PERSON

# Metres by which a joint may lie under the visible surface and still be seen: its flesh and cloth;
# chance that an annotator marks it where nobody can see it.
_JOINTS = {
    "nose": (0.03, 0.10), "eye": (0.025, 0.04), "ear": (0.045, 0.08), "shoulder": (0.15, 0.6),
    "elbow": (0.11, 0.5), "wrist": (0.09, 0.4), "hip": (0.22, 0.75), "knee": (0.13, 0.5),
    "ankle": (0.11, 0.45),
}  # fmt: skip
_COVERS, _GUESSES = np.array([_JOINTS[name.split("_")[-1]] for name in COCO.names]).T
_PEOPLE = np.array([0.05, 0.30, 0.24, 0.16, 0.10, 0.06, 0.04, 0.03, 0.02])
_DRAWN_AREA = 60  # visible pixels from which a person is annotated at all
_KEYPOINT_AREA = 600  # and from which the joints are
TO_CAMERA = np.diag([1.0, -1.0, -1.0])  # body axes of somebody who faces the camera -> camera frame


@dataclasses.dataclass(frozen=True)
class Person:
    """One placed figure; `figure` is in the camera frame."""

    figure: Figure
    build: Build
    view: View


@dataclasses.dataclass(frozen=True)
class Camera:
    """How the picture was taken: samples, metres and degrees."""

    height: int
    width: int
    focal: float
    horizon: float
    altitude: float
    pitch: float
    roll: float


def _heading(rng: np.random.Generator) -> float:
    kind = rng.random()
    if kind < 0.66:
        return rng.normal(0, 36)
    return rng.normal(180, 32) if kind < 0.78 else rng.uniform(-180, 180)


def _pitch(rng: np.random.Generator) -> float:
    kind = rng.random()
    if kind < 0.85:
        return rng.normal(4, 6)
    return rng.normal(28, 12) if kind < 0.96 else rng.normal(-14, 6)


def _pose(rng: np.random.Generator, camera: Camera, heading: float | None) -> tuple[Figure, Build]:
    build = sample_build(rng)
    yaw = _heading(rng) if heading is None else heading + rng.normal(0, 25)
    roll = turn(2, camera.roll + rng.normal(0, 2))
    tilt = turn(0, camera.pitch + rng.normal(0, 2))
    figure = sample_figure(rng, build)
    return figure.rotate(TO_CAMERA @ roll @ tilt @ turn(1, yaw)), build


def _extent(figure: Figure) -> tuple[float, float]:
    """Lowest and highest point (camera frame, metres below the hips)."""
    rows = [p[1] for p in figure.points.values()]
    return max(rows) + 0.02, min(rows) - 0.10


def _camera(rng: np.random.Generator, height: int, width: int) -> Camera:
    return Camera(
        height=OVERSAMPLE * height,
        width=OVERSAMPLE * width,
        focal=OVERSAMPLE * width * rng.uniform(0.9, 1.8),
        horizon=OVERSAMPLE * height * rng.uniform(0.1, 0.6),
        altitude=rng.uniform(0.9, 2.0),
        pitch=_pitch(rng),
        roll=rng.normal(0, 3.5) if rng.random() < 0.9 else rng.normal(0, 18),
    )


def _place_first(rng: np.random.Generator, camera: Camera, figure: Figure) -> tuple[Camera, View]:
    """The main subject: a size, then a row that shows its head or all of it."""
    low, high = _extent(figure)
    tall = low - high
    share = np.exp(rng.uniform(np.log(0.28), np.log(2.3)))
    scale = share * camera.height / max(tall, 0.9)
    body = tall * scale
    cut = rng.random()
    if body < 0.9 * camera.height and (share < 0.45 or cut < 0.6):  # all of it
        foot = rng.uniform(min(body + 0.02 * camera.height, 0.98 * camera.height), camera.height)
    elif cut < 0.95:  # cut at the bottom
        foot = body + rng.uniform(-0.03, 0.3 if body > camera.height else 0.6) * camera.height
    else:  # cut at the top: legs, or a torso without a head
        foot = camera.height * rng.uniform(0.75, 1.05)
    column = camera.width * float(np.clip(rng.normal(0.5, 0.2), 0.0, 1.0))
    camera = dataclasses.replace(camera, horizon=foot - camera.altitude * scale)
    return camera, _view(camera, column, foot - low * scale, scale)


def _view(camera: Camera, x: float, y: float, scale: float) -> View:
    depth = camera.focal / scale
    return View(float(x), float(y), float(scale), float(depth), float(max(depth, 2.0)))


def _place_next(
    rng: np.random.Generator, camera: Camera, figure: Figure, others: list[Person]
) -> View:
    """Somebody else on the same ground: beside, behind or in front of the others."""
    low, high = _extent(figure)
    near = others[rng.integers(len(others))].view
    beside = rng.random() < 0.45
    scale = near.scale * np.exp(rng.normal(-0.02, 0.08) if beside else rng.normal(-0.35, 0.55))
    smallest = 0.11 * camera.height / (low - high)
    scale = float(np.clip(scale, smallest, 1.6 * camera.height))
    if beside:
        column = near.x + rng.choice([-1, 1]) * rng.uniform(0.3, 1.1) * scale
    else:
        column = rng.uniform(0.0, 1.0) * camera.width
    foot = camera.horizon + camera.altitude * scale + rng.normal(0, 0.03) * camera.height
    row = foot - low * scale
    if row + high * scale < -0.05 * camera.height and rng.random() < 0.75:
        row = rng.uniform(0.0, 0.25) * camera.height - high * scale  # heads are rarely cut off
    return _view(camera, column, row, scale)


def _gather(rng: np.random.Generator, camera: Camera) -> tuple[Camera, list[Person]]:
    people: list[Person] = []
    count = rng.choice(len(_PEOPLE), p=_PEOPLE / _PEOPLE.sum())
    shared = _heading(rng) if rng.random() < 0.35 else None  # a row that looks one way
    for _ in range(count):
        figure, build = _pose(rng, camera, shared)
        if people:
            view = _place_next(rng, camera, figure, people)
        else:
            camera, view = _place_first(rng, camera, figure)
        people.append(Person(figure, build, view))
    return camera, people


def _crowd(rng: np.random.Generator, camera: Camera) -> list[Person]:
    """A far group, too small to tell apart."""
    scale = camera.height * rng.uniform(0.035, 0.055)
    x, y = rng.uniform(0.1, 0.9) * camera.width, rng.uniform(0.15, 0.6) * camera.height
    people = []
    for _ in range(rng.integers(10, 22)):
        figure, build = _pose(rng, camera, None)
        u, v = rng.normal((x, y), (1.6 * scale, 0.25 * scale))
        people.append(Person(figure, build, _view(camera, u, v, scale * rng.uniform(0.9, 1.1))))
    return people


def _draw_people(
    rng: np.random.Generator, canvas: Canvas, people: list[Person], owners: list[int]
) -> None:
    team = cloth_colour(rng) if rng.random() < 0.15 else None
    # Nearest first: what they hide is then not worked out in full.
    for owner, person in sorted(zip(owners, people, strict=True), key=lambda p: p[1].view.depth):
        wear = dress(rng, canvas, owner, team)
        sculptor = Sculptor(canvas, person.figure, person.view, person.build, wear)
        sculptor.draw()
        if person.view.scale > 20:
            accompany(rng, sculptor)


def _shadows(
    rng: np.random.Generator, people: list[Person], height: int, width: int
) -> Float[np.ndarray, "h w"]:
    """Soft shadows on the ground: the share of light that is left."""
    light = np.ones((height // 2, width // 2), np.float32)
    side, dark = rng.normal(0, 0.35), rng.uniform(0.45, 0.85)
    for person in people:
        low, _ = _extent(person.figure)
        scale = person.view.scale / (2 * OVERSAMPLE)
        x = person.view.x / (2 * OVERSAMPLE) + side * scale
        y = person.view.y / (2 * OVERSAMPLE) + low * scale
        axes = (int((0.3 + abs(side)) * scale) + 1, int(0.11 * scale) + 1)
        cv2.ellipse(light, (int(x), int(y)), axes, 0, 0, 360, dark, -1)
    light = cv2.GaussianBlur(light, (0, 0), width / 200)
    return cv2.resize(light, (width, height))


def label_joints(
    rng: np.random.Generator, person: Person, canvas: Canvas, mask: Bool[np.ndarray, "h w"]
) -> Float[np.ndarray, "17 3"]:
    """x, y and COCO's flag of a person's joints; zeros where the flag is 0.

    Whether they are seen, the depth buffer and the mask of the person's visible pixels decide;
    which of the hidden ones an annotator would have marked all the same, chance.
    """
    height, width = mask.shape
    projected = np.array([person.view.project(person.figure.points[name]) for name in COCO.names])
    points = ((projected[:, :2] - (OVERSAMPLE - 1) / 2) / OVERSAMPLE).round(1)
    depth = canvas.surface()
    column, row = np.round(points).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    column, row = column.clip(0, width - 1), row.clip(0, height - 1)
    covers = _COVERS * person.build.height / 1.71
    seen = inside & mask[row, column] & (projected[:, 2] - depth[row, column] < covers)
    guessed = inside & ~seen & (rng.random(len(points)) < _GUESSES)
    flags = np.where(seen, 2, np.where(guessed, 1, 0))
    points = points.clip(0, (width - 1, height - 1))
    return np.concatenate([points * (flags > 0)[:, None], flags[:, None]], axis=1)


def run_lengths(mask: Bool[np.ndarray, "h w"]) -> dict:
    """COCO's uncompressed run lengths: down the columns, starting with the background."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return {"counts": [0, *counts] if flat[0] else counts, "size": list(mask.shape)}


def _annotation(mask: Bool[np.ndarray, "h w"], keypoints: Float[np.ndarray, "17 3"], crowd: bool):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return {
        "bbox": [float(x), float(y), float(columns[-1] + 1 - x), float(rows[-1] + 1 - y)],
        "area": float(mask.sum()),
        "segmentation": run_lengths(mask),
        "iscrowd": int(crowd),
        "keypoints": [float(v) for v in keypoints.ravel()],
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
        "category_id": PERSON,
    }


def _develop(
    rng: np.random.Generator, picture: Float[np.ndarray, "h w 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """What cameras add: exposure, colour cast, blur, motion, noise."""
    gain = np.exp(rng.normal(-0.05, 0.18)) * np.exp(rng.normal(0, 0.06, 3))
    picture = picture * gain.astype(np.float32) + np.float32(rng.normal(0, 8))
    if rng.random() < 0.3:
        grey = picture.mean(axis=2, keepdims=True)
        saturation = 0.0 if rng.random() < 0.12 else rng.uniform(0.4, 1.4)
        picture = grey + (picture - grey) * np.float32(saturation)
    if rng.random() < 0.6:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.35, 1.1))
    if rng.random() < 0.07:
        length, angle = rng.uniform(3, 9), rng.uniform(0, np.pi)
        kernel = np.zeros((11, 11), np.float32)
        reach = length / 2 * np.array([np.cos(angle), np.sin(angle)])
        start, end = np.round([5 - reach, 5 + reach]).astype(int).tolist()
        cv2.line(kernel, start, end, 1.0)
        picture = cv2.filter2D(picture, -1, kernel / kernel.sum())
    grain = rng.integers(0, 256, (2, *picture.shape), np.uint8).sum(axis=0, dtype=np.int16) - 255
    picture = picture + grain * np.float32(rng.exponential(3.0) / 104)
    curve = 255 * np.linspace(0, 1, 256) ** np.exp(rng.normal(0, 0.15))
    return cv2.LUT(np.clip(picture, 0, 255).astype(np.uint8), curve.round().astype(np.uint8))


def scene(
    rng: np.random.Generator, *, height: int, width: int, background: Picture | None = None
) -> tuple[UInt8[np.ndarray, "h w 3"], list[dict]]:
    """Draws one picture with its labels; a pure function of the generator's state.

    Height and width are at least 64. The `background`, RGB in 0..255, is drawn if there is none.
    Returns the RGB picture and one COCO annotation per visible person or crowd, without `id` and
    `image_id`.
    """
    return scene_with_owners(rng, height=height, width=width, background=background)[:2]


def scene_with_owners(
    rng: np.random.Generator, *, height: int, width: int, background: Picture | None = None
) -> tuple[UInt8[np.ndarray, "h w 3"], list[dict], Int[np.ndarray, "h w"]]:
    """`scene`, with the id-buffer: annotation i owns the pixels that are i + 1."""
    camera = _camera(rng, height, width)
    light = np.array([rng.normal(0, 0.8), rng.normal(-0.8, 0.4), rng.normal(-0.8, 0.35)])
    canvas = Canvas(height, width, light, rng.uniform(0.35, 0.75))
    camera, people = _gather(rng, camera)
    crowd = _crowd(rng, camera) if rng.random() < 0.03 else []
    owners = list(range(1, len(people) + 1))
    _draw_people(rng, canvas, people, owners)
    _draw_people(rng, canvas, crowd, [len(people) + 1] * len(crowd))
    for _ in range(rng.poisson(0.65)):
        depth = camera.focal / (camera.height * np.exp(rng.uniform(np.log(0.15), np.log(1.2))))
        row = camera.horizon + camera.altitude * camera.focal / depth
        obstruct(rng, canvas, depth, row)
    drawn, coverage = canvas.resolve()
    if background is None:
        background = backdrop(rng, height, width, camera.horizon / OVERSAMPLE)
    if rng.random() < 0.7:
        background = background * _shadows(rng, people, height, width)[..., None]
    exposure = np.float32(np.exp(rng.normal(0.0, 0.15)))
    picture = exposure * drawn + (1 - coverage[..., None]) * background
    buffer = canvas.owners()
    annotations, table = [], np.zeros(len(people) + 2, np.int32)
    for owner in range(1, len(people) + 1 + bool(crowd)):
        mask = buffer == owner
        area, is_crowd = int(mask.sum()), owner > len(people)
        if area < _DRAWN_AREA:
            continue
        keypoints = np.zeros((len(COCO), 3))
        if not is_crowd and area >= _KEYPOINT_AREA:
            keypoints = label_joints(rng, people[owner - 1], canvas, mask)
        annotations.append(_annotation(mask, keypoints, is_crowd))
        table[owner] = len(annotations)
    return _develop(rng, picture), annotations, table[buffer]
