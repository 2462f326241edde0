"""Candidates, pair features and costs, the tree walk and people, by loops in float64."""

import itertools
import math

import numpy as np


def candidates(logits, offset, usable, *, count, stride, radius, least):
    """For each joint a list of (x, y, column, row, logit), best first."""
    height, width, joints = logits.shape

    def value(i, j, k):
        """-inf for what does not exist, or lies outside."""
        if not (0 <= i < height and 0 <= j < width) or not usable[i, j]:
            return -math.inf
        if math.isnan(logits[i, j, k]) or not all(map(math.isfinite, offset[i, j, k])):
            return -math.inf
        return float(logits[i, j, k])

    result = []
    for k in range(joints):
        maxima = []
        for i, j in itertools.product(range(height), range(width)):
            around = itertools.product((i - 1, i, i + 1), (j - 1, j, j + 1))
            here = value(i, j, k)
            if here >= max(least, *(value(*cell, k) for cell in around)) and here > -math.inf:
                x, y = (
                    stride * j + float(offset[i, j, k, 0]),
                    stride * i + float(offset[i, j, k, 1]),
                )
                maxima.append((x, y, j, i, here))
        maxima.sort(key=lambda m: -m[4])  # stable: the lowest row, then column
        kept = []
        for m in maxima:
            if all(math.dist(m[:2], other[:2]) > radius for other in kept):
                kept.append(m)
        result.append(kept[:count])
    return result


def pair_features(points, origins, offsets, joints):
    n = len(points)
    half = np.zeros((n, n, 2))
    for i, j in itertools.product(range(n), repeat=2):
        rx, ry = (float(points[j][axis]) - float(origins[i][axis]) for axis in (0, 1))
        ex, ey = map(float, offsets[i][joints[j]])
        angle = 0.0
        if (rx, ry) != (0, 0) and (ex, ey) != (0, 0):
            angle = abs(math.atan2(ry, rx) - math.atan2(ey, ex))
            angle = min(angle, 2 * math.pi - angle)
        half[i, j] = math.hypot(rx - ex, ry - ey), angle
    features = np.zeros((n, n, 8))
    for i, j in itertools.product(range(n), repeat=2):
        features[i, j, :2], features[i, j, 2:4] = half[i, j], half[j, i]
        features[i, j, 4:] = [math.exp(-x) for x in features[i, j, :4]]
    return features


def cost(probability):
    p = min(max(probability, 1e-7), 1 - 1e-7)
    return math.log((1 - p) / p)


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def pair_costs(features, points, joints, model, *, reach=37.5, steepness=0.2):
    n = len(points)
    costs = np.zeros((n, n))
    for i, j in itertools.product(range(n), repeat=2):
        a, b = int(joints[i]), int(joints[j])
        if i == j:
            continue
        if a == b:
            costs[i, j] = cost(sigmoid(-steepness * (math.dist(points[i], points[j]) - reach)))
        elif a < b and model.known[a, b]:
            logit = sum(float(w) * float(f) for w, f in zip(model.weights[a, b], features[i, j]))
            costs[i, j] = costs[j, i] = cost(sigmoid(logit + float(model.bias[a, b])))
    return costs


def tree_walk(points, logits, expected, valid, *, limbs, reach):
    joints, count = valid.shape
    labels = np.full((joints, count), -1)
    places = [[] for _ in range(joints)]  # of the joints that people have
    order = sorted(
        (c for c in np.ndindex(joints, count) if valid[c] and logits[c] >= 0),
        key=lambda c: -float(logits[c]),
    )
    for first in order:
        near = any(math.dist(points[first], place) <= reach for place in places[first[0]])
        if labels[first] >= 0 or near:
            continue
        members, origin, queue = [first], {first[0]: first}, [first[0]]
        labels[first] = -2
        while queue:
            here = queue.pop(0)
            for there in sorted({b if a == here else a for a, b in limbs if here in (a, b)}):
                if there in origin:
                    continue
                queue.append(there)
                aim = expected[origin[here]][there]
                best = (reach, None)
                for m in range(count):
                    if valid[there, m] and labels[there, m] == -1:
                        away = math.dist(points[there, m], aim)
                        if away < best[0] or (away <= reach and best[1] is None):
                            best = (away, (there, m))
                origin[there] = best[1] or origin[here]
                if best[1]:
                    labels[best[1]] = -2
                    members.append(best[1])
        name = min(k * count + m for k, m in members)
        for k, m in members:
            labels[k, m] = name
            places[k].append(points[k, m])
    return labels


def assemble(labels, points, logits, expected):
    """A list of (score, keypoints, joint scores, found), best first."""
    joints, count = labels.shape
    people = []
    for name in sorted(set(labels.ravel().tolist()) - set(range(-joints * count - 2, 0))):
        keypoints, scores, found = np.zeros((joints, 2)), np.zeros(joints), np.zeros(joints, bool)
        mine = [cell for cell in np.ndindex(joints, count) if labels[cell] == name]
        for k in range(joints):
            own = [c for c in mine if c[0] == k]
            places = [(sigmoid(float(logits[c])), points[c]) for c in own]
            if own:
                scores[k], found[k] = max(p for p, _ in places), True
            else:
                places = [(sigmoid(float(logits[c])), expected[c][k]) for c in mine]
                places = [(p, place) for p, place in places if np.isfinite(place).all()]
            total = sum(p for p, _ in places)
            if total:
                keypoints[k] = sum(p * np.asarray(place, float) for p, place in places) / total
        people.append((scores.sum() / joints, keypoints, scores, found))
    return sorted(people, key=lambda person: -person[0])
