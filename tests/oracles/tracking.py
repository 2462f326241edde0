"""ByteTrack's association in numpy, people who walk past each other, what counts as a switch."""

import math

import numpy as np
from scipy.optimize import linear_sum_assignment

from g_rmi.types import People


def iou(a, b):
    """IoU of two boxes `(x0, y0, x1, y1)`."""
    w, h = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    inside = max(w, 0) * max(h, 0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return inside / (areas - inside) if areas > inside else 0.0


class _Walker:
    """A track of ByteTrack: a Kalman filter of centre, aspect and height, and their velocities."""

    def __init__(self, box, number, confirmed):
        self.number, self.confirmed, self.lost = number, confirmed, 0
        self.mean = np.concatenate([self.measured(box), np.zeros(4)])
        h = self.mean[3]
        spread = [h / 10, h / 10, 1e-2, h / 10, h / 16, h / 16, 1e-5, h / 16]
        self.covariance = np.diag(np.square(spread))

    @staticmethod
    def measured(box):
        w, h = box[2] - box[0], box[3] - box[1]
        return np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, w / h, h])

    @property
    def box(self):
        x, y, aspect, h = self.mean[:4]
        return np.array([x - aspect * h / 2, y - h / 2, x + aspect * h / 2, y + h / 2])

    def predict(self):
        if self.lost:
            self.mean[7] = 0
        h = self.mean[3]
        noise = [h / 20, h / 20, 1e-2, h / 20, h / 160, h / 160, 1e-5, h / 160]
        step = np.eye(8) + np.eye(8, k=4)
        self.mean = step @ self.mean
        self.covariance = step @ self.covariance @ step.T + np.diag(np.square(noise))

    def update(self, box):
        h = self.mean[3]
        see = np.eye(4, 8)
        expected = see @ self.covariance @ see.T
        expected += np.diag(np.square([h / 20, h / 20, 1e-1, h / 20]))
        gain = self.covariance @ see.T @ np.linalg.inv(expected)
        self.mean = self.mean + gain @ (self.measured(box) - see @ self.mean)
        self.covariance = self.covariance - gain @ expected @ gain.T
        self.confirmed, self.lost = True, 0


class ByteTrack:
    """ByteTrack (Zhang et al., ECCV 2022), with the thresholds of its published code."""

    def __init__(self, high, low=0.1, patience=30, fuse=False):
        self.high, self.low, self.patience, self.fuse = high, low, patience, fuse
        self.walkers, self.frame, self.count = [], 0, 0

    def __call__(self, boxes, scores):
        """The id of each box; -1 without a track."""
        ids = np.full(len(boxes), -1)
        self.frame += 1
        for walker in self.walkers:
            walker.predict()
        high = [i for i in range(len(boxes)) if scores[i] > self.high]
        low = [i for i in range(len(boxes)) if self.low < scores[i] <= self.high]
        confirmed = [w for w in self.walkers if w.confirmed]
        unconfirmed = [w for w in self.walkers if not w.confirmed]
        left = self._match(confirmed, high, boxes, scores, ids, 0.8, fuse=self.fuse)
        still = [w for w in left[0] if not w.lost]
        rest, _ = self._match(still, low, boxes, scores, ids, 0.5)
        gone, high = self._match(unconfirmed, left[1], boxes, scores, ids, 0.7, fuse=self.fuse)
        for walker in [w for w in left[0] if w.lost] + rest:
            walker.lost += 1
        self.walkers = [w for w in self.walkers if w.lost <= self.patience and w not in gone]
        for i in high:
            self.count += 1
            ids[i] = self.count
            self.walkers.append(_Walker(boxes[i], self.count, self.frame == 1))
        return ids

    @staticmethod
    def _match(walkers, numbers, boxes, scores, ids, limit, fuse=False):
        """Updates those who match; returns the walkers and the boxes that are left."""
        cost = np.zeros((len(walkers), len(numbers)))
        for i, walker in enumerate(walkers):
            for j, number in enumerate(numbers):
                weight = scores[number] if fuse else 1.0
                cost[i, j] = min(1 - weight * iou(walker.box, boxes[number]), limit)
        pairs = zip(*linear_sum_assignment(cost))
        pairs = [(i, j) for i, j in pairs if cost[i, j] < limit]
        for i, j in pairs:
            walkers[i].update(boxes[numbers[j]])
            ids[numbers[j]] = walkers[i].number
        rows, columns = {i for i, _ in pairs}, {j for _, j in pairs}
        return (
            [w for i, w in enumerate(walkers) if i not in rows],
            [n for j, n in enumerate(numbers) if j not in columns],
        )


# Joints of somebody who stands, in heights from the feet's middle.
_X = (0, 0.02, -0.02, 0.04, -0.04, 0.1, -0.1, 0.13, -0.13, 0.14, -0.14, 0.07, -0.07, 0.07, -0.07)
_Y = (0.93, 0.95, 0.95, 0.94, 0.94, 0.8, 0.8, 0.63, 0.63, 0.48, 0.48, 0.5, 0.5, 0.27, 0.27)
STANDING = np.stack([(*_X, 0.07, -0.07), -np.array((*_Y, 0.03, 0.03))], axis=-1)
_SWING = np.zeros(17)
_SWING[[7, 9, 14, 16]] = 0.04, 0.09, 0.08, 0.14
_SWING[[8, 10, 13, 15]] = -_SWING[[7, 9, 14, 16]]


def crowd(rng, *, people=6, frames=150, rate=25.0, size=(1280, 720), missed=0.05, noise=1.0):
    """Frames of people who walk, stop, turn, hide each other, leave and come back.

    Yields:
      What a pipeline finds, noise included, and who each of them is: 0, 1, ...; -1 is nobody.
    """
    height = rng.uniform(0.3, 0.6, people) * size[1]
    feet = rng.uniform(0.65, 1.0, people) * size[1]
    order = np.argsort(feet)  # the nearest last, who hide others
    x = rng.uniform(0, size[0], people)
    speed = rng.normal(0, 0.5, people) * height
    phase = rng.uniform(0, 6, people)
    for _ in range(frames):
        turns = rng.uniform(size=people) < 1 / (2 * rate)
        speed = np.where(turns, rng.normal(0, 0.5, people) * height, speed)
        outside = (x < -0.3 * height) | (x > size[0] + 0.3 * height)
        speed = np.where(outside, np.sign(size[0] / 2 - x) * np.abs(speed), speed)
        x, phase = x + speed / rate, phase + 7 * np.abs(speed) / height / rate
        poses, boxes = [], []
        for n in range(people):
            pose = STANDING.copy()
            pose[:, 0] += _SWING * np.sin(phase[n])
            pose = pose * height[n] + (x[n], feet[n])
            poses.append(pose)
            edge = 0.05 * height[n]
            boxes.append([*(pose.min(0) - edge), *(pose.max(0) + edge)])
        yield _seen(rng, poses, boxes, order, size, missed, noise)


def _seen(rng, poses, boxes, order, size, missed, noise):
    found = []
    for place, n in enumerate(order):
        hidden = max((_covered(boxes[n], boxes[m]) for m in order[place + 1 :]), default=0.0)
        out = 1 - _covered(boxes[n], (0, 0, *size))
        hidden = max(hidden, out)
        if hidden > 0.85 or rng.uniform() < missed + (0.5 if hidden > 0.6 else 0):
            continue
        tall = boxes[n][3] - boxes[n][1]
        box = np.array(boxes[n]) + rng.normal(0, 0.02 * noise * (1 + 2 * hidden) * tall, 4)
        pose = poses[n] + rng.normal(0, 0.015 * noise * (1 + 3 * hidden) * tall, (17, 2))
        score = np.clip(rng.normal(0.55 - 0.4 * hidden, 0.08), 0.21, 1)
        found.append((n, pose, box, score))
    if rng.uniform() < 0.1:  # nobody is there
        tall = rng.uniform(0.3, 0.6) * size[1]
        pose = STANDING * tall + rng.uniform((0, 0.65 * size[1]), size)
        box = np.array([*pose.min(0), *pose.max(0)])
        found.append((-1, pose, box, np.clip(rng.normal(0.25, 0.04), 0.21, 1)))
    found.sort(key=lambda each: -each[3])
    who = [each[0] for each in found]
    pose = np.array([each[1] for each in found], np.float32).reshape(-1, 17, 2)
    box = np.array([each[2] for each in found], np.float32).reshape(-1, 4)
    score = np.array([each[3] for each in found], np.float32)
    joint = np.repeat(score[:, None], 17, axis=1)
    return People(pose, joint, score, box), who


def _covered(box, other):
    w, h = (max(min(box[i + 2], other[i + 2]) - max(box[i], other[i]), 0) for i in (0, 1))
    return w * h / ((box[2] - box[0]) * (box[3] - box[1]))


def switches(frames):
    """How often somebody has another id than the last time, and how often somebody has an id.

    `frames` gives who the people of each frame are, -1 for nobody, and their ids, -1 for none.
    """
    last, count, total = {}, 0, 0
    for people, ids in frames:
        for person, number in zip(people, ids, strict=True):
            if person >= 0 and number >= 0:
                count += last.get(person, number) != number
                total += 1
                last[person] = number
    return count, total


def one_euro(times, points, *, size, min_cutoff, speed_cutoff):
    """One-euro filter (Casiez et al., CHI 2012) of one point [T, 2], speed in sizes a second."""

    def alpha(cutoff, elapsed):
        return 1 / (1 + 1 / (2 * math.pi * cutoff) / elapsed)

    found, speed = [points[0]], np.zeros(2)
    for i in range(1, len(points)):
        elapsed = times[i] - times[i - 1]
        a = alpha(1.0, elapsed)
        speed = a * (points[i] - found[-1]) / elapsed + (1 - a) * speed
        a = alpha(min_cutoff + speed_cutoff * np.hypot(*speed) / size, elapsed)
        found.append(a * points[i] + (1 - a) * found[-1])
    return np.array(found)
