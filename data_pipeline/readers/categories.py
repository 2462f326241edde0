"""Who the people of a COCO annotation file are, and which joints they have."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import PureWindowsPath
from typing import Any, NamedTuple

from data_pipeline.readers.reader import PEOPLE, is_inside, numbers, whole
from g_rmi.config import nearest
from g_rmi.skeleton import COCO, Skeleton, coco_name
from g_rmi.types import PERSON

_SMALLEST = 1e-4  # Of a sigma: COCO's formula divides by its square.


class Category(NamedTuple):
    """Who the people are: their categories, the others', by id and by name, and their joints."""

    ours: frozenset[int | str]  # none: the only one that there is
    others: frozenset[int | str]
    skeleton: Skeleton | None  # None: no joints are declared, a set of boxes


def people_category(content: Mapping[str, Any]) -> Category:
    """Decides which categories of an annotation file are people, whatever their ids.

    Those with a person's name; else those that declare joints; else the one with COCO's id, or the
    only one. Of several, one declares the joints: a root that groups others may have their name. A
    ValueError if that is not certain, or the joints are neither COCO's nor complete.
    """
    listed = content.get("categories")
    if not listed:
        return Category(frozenset(), frozenset(), COCO)
    categories = _categories(listed)
    named = [c for c in categories if lower(c.get("name")) in PEOPLE]
    jointed = [c for c in categories if c.get("keypoints")]
    ours = named or jointed or categories
    if not named and len(ours) > 1:
        ours = [c for c in ours if c["id"] == PERSON] if jointed else []
    if not ours:
        names = ", ".join(repr(c.get("name")) for c in categories)
        raise ValueError(
            f"categories {names}: none has the name 'person', so who are the people? "
            "(`train --category` takes several)"
        )
    for one, other in itertools.product(ours, categories):
        if one["id"] == other["id"] and other not in ours:
            names = f"{one.get('name')!r} and {other.get('name')!r}"
            raise ValueError(f"categories {names} have one id, {one['id']}")
    skeletons = [declared_skeleton(c) for c in ours if c.get("keypoints")]
    if any(skeletons[0].difference(other) for other in skeletons):
        raise ValueError("two categories of people declare different joints")
    return Category(_keys(ours), _keys(categories), skeletons[0] if skeletons else None)


def chosen_categories(
    content: Mapping[str, Any], names: Sequence[str]
) -> dict[str, tuple[int, Category]]:
    """The categories of these names, or "all" that declare joints: ids, and each as people are.

    A ValueError if a name is not there, twice there, or its category declares no complete joints.
    """
    listed = content.get("categories")
    categories = _categories(listed) if listed else []
    jointed = [str(c.get("name")) for c in categories if c.get("keypoints")]
    wanted = jointed if list(names) == ["all"] else list(names)
    if not wanted:
        raise ValueError("no category declares 'keypoints'")
    found: dict[str, tuple[int, Category]] = {}
    for name in wanted:
        same = [c for c in categories if lower(c.get("name")) == lower(name)]
        if not same:
            known = [str(c.get("name")) for c in categories]
            raise ValueError(f"no category {name!r}{nearest(name, known)}")
        if len(same) > 1:
            ids = " and ".join(str(c["id"]) for c in same)
            raise ValueError(f"categories {ids} have one name, {name!r}")
        (category,) = same
        if any(c["id"] == category["id"] for c in categories if c is not category):
            raise ValueError(f"two categories have the id of {name!r}, {category['id']}")
        called = str(category["name"])
        if not is_inside(called) or len(PureWindowsPath(called).parts) > 1:
            raise ValueError(f"category {called!r}: cannot be the name of a folder, for results")
        if called in found:
            raise ValueError(f"category {name!r} is named twice")
        if not category.get("keypoints"):
            others = ", ".join(jointed) or "none"
            raise ValueError(f"category {name!r} declares no 'keypoints'; those that do: {others}")
        try:
            skeleton = declared_skeleton(category)
        except ValueError as error:
            raise ValueError(f"category {name!r}: {error}") from None
        number = PERSON if category["id"] is None else category["id"]
        found[called] = number, Category(_keys([category]), _keys(categories), skeleton)
    return found


def _keys(categories: list[dict]) -> frozenset[int | str]:
    """Ids and names; nothing where one has no id."""
    ids, names = [c["id"] for c in categories], [lower(c.get("name")) for c in categories]
    return frozenset() if None in ids else frozenset([*ids, *filter(None, names)])


def lower(name: Any) -> str | None:
    """A name as names are compared; None: it is no text."""
    return name.strip().lower() if isinstance(name, str) else None


def _categories(listed: Any) -> list[dict]:
    """The categories as objects with an id; only of a single one it may be None."""
    if isinstance(listed, Mapping):  # {"1": "person"}, {"1": {"name": "person"}}
        listed = [
            {"id": key, **(value if isinstance(value, Mapping) else {"name": value})}
            for key, value in listed.items()
        ]
    if not isinstance(listed, list):
        raise ValueError(f"field 'categories' is no list of objects: {listed!r:.80}")
    found = [dict(c) if isinstance(c, Mapping) else {"name": c} for c in listed]
    for i, category in enumerate(found):
        category["id"] = whole(said := category.get("id"))
        if category["id"] is None and (len(found) > 1 or said is not None):
            raise ValueError(f"categories, entry {i}: field 'id' = {said!r} is not an integer")
    return found


def declared_skeleton(category: Mapping[str, Any]) -> Skeleton:
    """The keypoint set that a category declares: `keypoints` (the names), `sigmas`, `skeleton`.

    Left and right of a name mirror each other, see `g_rmi.skeleton.side_of`; the skeleton is its
    limbs, pairs of joint numbers from 1 or of names. COCO's names, in whatever spelling ("Left
    Eye"), need neither sigmas nor limbs. A ValueError if it is neither COCO's nor complete.
    """
    names, sigmas, limbs = (category.get(field) for field in ("keypoints", "sigmas", "skeleton"))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"'keypoints' of a category must be a list of names: {names!r:.80}")
    if cocos := [*map(coco_name, names)] == list(COCO.names):
        names = list(COCO.names)
    if sigmas is None and not cocos:
        raise ValueError(
            f"{_difference(names)}, and a keypoint set of its own needs 'sigmas' in its category: "
            f"a number for each joint, COCO's lie between {min(COCO.sigmas)} and {max(COCO.sigmas)}"
        )
    sigmas = list(COCO.sigmas) if sigmas is None else sigmas
    certain = numbers(sigmas, len(names))
    if certain is None or not _SMALLEST <= min(certain) <= max(certain) <= 1:
        wanted = f"{len(names)} positive numbers up to 1"
        raise ValueError(f"'sigmas' must be {wanted}, got {sigmas!r:.80}")
    if not limbs:
        pairs = [(names[a], names[b]) for a, b in COCO.limbs] if cocos else []
        return Skeleton.create(names, limbs=pairs, sigmas=certain)
    found = [_ends(limb, names) for limb in limbs] if isinstance(limbs, list) else []
    pairs = [pair for pair in found if pair]
    if not pairs or len(pairs) < len(found):
        wanted = f"pairs of joint numbers 1 to {len(names)}"
        raise ValueError(f"'skeleton' must be {wanted}: {limbs!r:.80}")
    return Skeleton.create(names, limbs=pairs, sigmas=certain)


def _ends(limb: Any, names: Sequence[str]) -> tuple[str, str] | None:
    """The two joints that a limb names or numbers; None: there are no such."""
    if not isinstance(limb, list) or len(limb) != 2:
        return None
    a, b = (names.index(end) + 1 if end in names else whole(end) or 0 for end in limb)
    return (names[a - 1], names[b - 1]) if 0 < min(a, b) <= max(a, b) <= len(names) else None


def _difference(names: Sequence[str]) -> str:
    if len(names) != len(COCO):
        return f"{len(names)} joints are declared, COCO has {len(COCO)}"
    k = next(k for k, name in enumerate(COCO.names) if names[k] != name)
    return f"joint {k} is {names[k]!r}, COCO's is {COCO.names[k]!r}"
