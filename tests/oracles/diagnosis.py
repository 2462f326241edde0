"""What became of a joint, decided joint by joint."""

import math


def similarity(point, label, area, sigma):
    """COCO's term of the OKS."""
    squared = (point[0] - label[0]) ** 2 + (point[1] - label[1]) ** 2
    return math.exp(-squared / (2 * area * (2 * sigma) ** 2))


def joint_kind(k, pose, person, joints, visible, areas, skeleton):
    """The kind of joint k by the definitions, or None if it is not labelled."""
    if not visible[person][k]:
        return None
    sigma = skeleton.sigmas[k]
    own = similarity(pose[k], joints[person][k], areas[person], sigma)
    if own >= 0.85:
        return "good"
    if own >= 0.5:
        return "jitter"
    best, kind = 0.5, "miss"
    for q in range(len(joints)):
        for j in {k, skeleton.flip[k]}:
            if (q == person and j == k) or not visible[q][j]:
                continue
            similar = similarity(pose[k], joints[q][j], areas[q], skeleton.sigmas[j])
            if similar > best or (similar == best and kind == "miss"):
                best, kind = similar, "inversion" if q == person else "swap"
    return kind
