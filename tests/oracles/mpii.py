"""MPII's multi-person AP, joint by joint and rank by rank."""

import math


def is_right(picture, d, p, k, threshold):
    truth, visible, heads, found, _ = picture
    if not visible[p][k] or math.isnan(found[d][k][0]):
        return False
    return math.dist(found[d][k], truth[p][k]) <= threshold * heads[p]


def multi_person_ap(pictures, threshold=0.5):
    joints = pictures[0].keypoints.shape[1]
    ranked, totals = [[] for _ in range(joints)], [0] * joints
    for picture in pictures:
        _, visible, heads, found, scores = picture
        people = [p for p in range(len(heads)) if heads[p] > 0]

        for p in people:
            for k in range(joints):
                totals[k] += bool(visible[p][k])
        stands_for = {}
        for d in range(len(found)):
            best = (0.0, None)
            for p in people:
                labelled = sum(map(bool, visible[p]))
                share = sum(is_right(picture, d, p, k, threshold) for k in range(joints)) / max(
                    labelled, 1
                )
                if share > best[0]:
                    best = (share, p)
            stands_for[d] = best
        assigned = {}
        for p in people:
            best = (0.0, None)
            for d, (share, person) in stands_for.items():
                if person == p and share > best[0]:
                    best = (share, d)
            if best[1] is not None:
                assigned[best[1]] = p
        for d in range(len(found)):
            for k in range(joints):
                if math.isnan(found[d][k][0]):
                    continue
                if d not in assigned:
                    ranked[k].append((float(scores[d][k]), False))
                elif visible[assigned[d]][k]:
                    ranked[k].append(
                        (float(scores[d][k]), is_right(picture, d, assigned[d], k, threshold))
                    )
    return [area(rows, total) for rows, total in zip(ranked, totals)]


def area(rows, total):
    """Under the envelope, by the trapezium-free rule of PASCAL VOC after 2010."""
    if not total:
        return math.nan
    rows = sorted(rows, key=lambda row: -row[0])
    recall, precision, hits = [0.0], [0.0], 0
    for rank, (_, right) in enumerate(rows, 1):
        hits += right
        recall.append(hits / total)
        precision.append(hits / rank)
    recall, precision = [*recall, 1.0], [*precision, 0.0]
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    return sum((recall[i + 1] - recall[i]) * precision[i + 1] for i in range(len(recall) - 1))
