"""Hard examples, one after the other."""

import math


def hardest(losses, allowed, count):
    """Indices of the `count` highest losses, highest first, of what is allowed."""
    left = [i for i in range(len(losses)) if allowed[i]]
    losses = [math.inf if math.isnan(x) else x for x in losses]
    chosen = []
    while left and len(chosen) < count:
        worst = left[0]
        for i in left:
            if losses[i] > losses[worst]:
                worst = i
        left.remove(worst)
        chosen.append(worst)
    return chosen


def multibox_loss(logits, deltas, labels, targets, *, ratio, least):
    """Class and box loss of one picture; labels: 1 a person, 0 background, -1 nothing."""

    def cross_entropy(z, y):
        return math.log(1 + math.exp(-abs(z))) + max(z, 0) - z * y

    losses = [cross_entropy(z, max(y, 0)) for z, y in zip(logits, labels)]
    positives = [i for i, y in enumerate(labels) if y == 1]
    count = max(least, math.floor(ratio * len(positives)))
    negatives = hardest(losses, [y == 0 for y in labels], count)
    box = 0.0
    for i in positives:
        for d, t in zip(deltas[i], targets[i]):
            error = abs(d - t)
            box += 0.5 * error**2 if error <= 1 else error - 0.5
    return sum(losses[i] for i in positives + negatives), box, len(positives), len(negatives)
