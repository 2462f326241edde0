"""What each choice is worth: COCO's numbers with settings changed, as tables."""

import dataclasses
from collections.abc import Mapping, Sequence

from g_rmi.inference.settings import Settings

Rows = dict[str, tuple[str, Settings]]
"""By the row's name: a source of boxes, and how people are looked for there."""

Numbers = dict[str, dict[str, float]]


def one_at_a_time(source: str, settings: Settings, decodings: Sequence[str]) -> Rows:
    """`settings`, which say how to decode, and with one of them changed at a time."""
    changes: dict[str, Sequence] = {
        "decoding": decodings,
        "flip_test": (not settings.flip_test,),
        "rotation_test": (not settings.rotation_test,),
        "ranking": ("pose", "box", "product"),
        "oks_nms": (0.1, 0.3, 0.5, 0.7, 0.9, 1.0),
    }
    rows = {"as given": (source, settings)}
    for name, values in changes.items():
        for value in values:
            if value != getattr(settings, name):
                changed = dataclasses.replace(settings, **{name: value})
                rows[f"{name} = {value}"] = source, changed
    return rows


def grid(sources: Mapping[str, bool], settings: Settings) -> Rows:
    """Every source of boxes x what ranks people x how duplicates are dropped (threshold .5).

    Sources whose boxes have no scores are False: there, the product would be the pose score.
    """
    suppressions = {"no NMS": (1.0, 1.0), "IoU-NMS": (1.0, 0.5), "OKS-NMS": (0.5, 1.0)}
    return {
        f"{source} boxes, {ranking} score, {name}": (
            source,
            dataclasses.replace(settings, ranking=ranking, oks_nms=oks, box_nms=iou),
        )
        for source, scored in sources.items()
        for ranking in ("box", "pose", *(("product",) if scored else ()))
        for name, (oks, iou) in suppressions.items()
    }
