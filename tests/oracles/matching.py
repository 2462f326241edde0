"""Matching, anchor by anchor."""

import math


def match(overlap, valid, *, anchors, positive, negative, force, claim=False):
    """Index, positive and negative of every anchor."""
    rows = [g for g in range(len(overlap)) if valid[g]]
    result = []
    for a in range(anchors):
        index, best = 0, -1.0
        for g in rows:
            if overlap[g][a] > best:
                index, best = g, overlap[g][a]
        result.append([index, best >= positive, best < negative])
    for g in rows if force else ():
        highest = max((o for o in overlap[g] if not math.isnan(o)), default=0.0)
        for a in range(anchors):
            if highest > 0 and overlap[g][a] == highest:
                result[a][1:] = True, False
    claimed = set()
    for g in rows if claim else ():
        best, highest = None, 0.0
        for a in range(anchors):
            if a not in claimed and overlap[g][a] > highest:
                best, highest = a, overlap[g][a]
        if best is not None:
            claimed.add(best)
            result[best] = [g, True, False]
    return result
