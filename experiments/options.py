"""What each choice is worth: COCO's numbers with options changed, as tables."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from g_rmi.evaluation.coco import KEYPOINT_METRICS
from g_rmi.evaluation.evaluator import Decoding
from g_rmi.pose.decode import refinable

Rows = dict[str, tuple[str, Decoding]]
"""By the row's name: a source of boxes, and how maps become people."""

Numbers = dict[str, dict[str, float]]


def one_at_a_time(source: str, decoding: Decoding) -> Rows:
    """`decoding`, which has a method, and with one option at a time changed."""
    changes: list[dict[str, Any]] = [
        {"method": "argmax"},
        {"method": "argmax_offset"},
        {"method": "hough"},
        {"method": "hough_oks"},
        {"refine": not decoding.refine},
        {"flip_test": not decoding.flip_test},
        {"turn_test": not decoding.turn_test},
        {"score": "pose"},
        {"score": "box"},
        {"score": "product"},
        *({"oks_threshold": threshold} for threshold in (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)),
    ]
    rows = {"as given": (source, decoding)}
    for change in changes:
        variant = dataclasses.replace(decoding, **change)
        off_grid = variant.refine and not refinable(variant.method)
        if not off_grid and variant != decoding:
            rows[", ".join(f"{name} = {value}" for name, value in change.items())] = source, variant
    return rows


def grid(sources: Mapping[str, bool], decoding: Decoding) -> Rows:
    """Every source of boxes x what ranks people x how duplicates are dropped (threshold .5).

    Args:
      sources: By name, whether its boxes have scores; else a product would be the pose score.
      decoding: The other options.
    """
    suppressions = {"no NMS": (1.0, 1.0), "IoU-NMS": (1.0, 0.5), "OKS-NMS": (0.5, 1.0)}
    return {
        f"{source} boxes, {score} score, {name}": (
            source,
            dataclasses.replace(decoding, score=score, oks_threshold=oks, iou_threshold=iou),
        )
        for source, scored in sources.items()
        for score in ("box", "pose", *(("product",) if scored else ()))
        for name, (oks, iou) in suppressions.items()
    }


def markdown(rows: Numbers, title: str) -> str:
    """The rows as a Markdown table that also reads well as plain text."""
    width = max(map(len, (*rows, title)))
    lines = [
        f"| {title:{width}} | {' | '.join(f'{name:>5}' for name in KEYPOINT_METRICS)} |",
        f"| {'-' * width} | {' | '.join('----:' for _ in KEYPOINT_METRICS)} |",
    ]
    for name, numbers in rows.items():
        values = " | ".join(f"{numbers[metric]:5.3f}" for metric in KEYPOINT_METRICS)
        lines.append(f"| {name:{width}} | {values} |")
    return "\n".join(lines) + "\n"
