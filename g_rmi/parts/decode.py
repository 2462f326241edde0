"""From the maps of a picture to its people: candidates, costs, partition, assembly (DeeperCut)."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Int32

from g_rmi.config import require, require_numbers, require_positive
from g_rmi.ops.assemble import assemble
from g_rmi.ops.candidates import Candidates, find_candidates
from g_rmi.ops.pair_costs import (
    DISTANCES,
    FEATURES,
    ONE_WAY,
    PairModel,
    log_odds,
    pair_costs,
    pair_features,
)
from g_rmi.ops.partition import partition, partition_in_stages
from g_rmi.ops.tree_walk import tree_walk
from g_rmi.skeleton import Skeleton
from g_rmi.types import Poses

# Joints of the second and third stage; head and shoulders, and whatever else, are of the first.
_REGIONS = (("elbow", "wrist"), ("hip", "knee", "ankle", "pelvis", "foot", "heel", "toe"))
STAGES = 1 + len(_REGIONS)
_SEEN = {"distances": DISTANCES, "one_way": ONE_WAY}  # all, otherwise


class PartMaps(NamedTuple):
    """What the network says of a picture, vectors in pixels."""

    score: Float[Array, "H W K"]  # logits: is joint a here?
    offset: Float[Array, "H W K 2"]  # from the cell to joint a
    pairwise: Float[Array, "H W K K 2"]  # from the cell to joint b of the person whose a is here


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How maps become people; the defaults are the authors' where their code says.

    Attributes:
      solver: "stages" partitions head and shoulders, then the arms with them, then the legs;
        "whole" all candidates at once; "tree" walks along the limbs and asks no costs; "exact"
        finds the lowest energy of all, on the host, where it takes seconds.
      features: What the regressions of pairs know: "all" is DeeperCut's, distances and angles seen
        from both joints; "one_way" is what one of them sees, "distances" leaves the angles out,
        "geometry" expects the other joint at its mean place in the training set, whatever the
        picture shows. They are fitted to it.
      candidates: Most candidates of a joint in a picture, the best first.
      min_score: Score from which on there is a candidate, above 0 and below 1.
      suppression: Of two candidates of a joint as close as this, in pixels, the better stays.
      reach: Distance at which two candidates of one joint are as likely one person's as not, in
        pixels; in the tree walk, the farthest that a joint lies from where it is expected.
      steepness: How soon that becomes certain, per pixel.
      max_people: Most people of a picture, the best first.
      time_limit: Seconds after which "exact" takes the lower energy of what it has and of "whole".
    """

    solver: Literal["stages", "whole", "tree", "exact"] = "stages"
    features: Literal["all", "one_way", "distances", "geometry"] = "all"
    candidates: int = 20
    min_score: float = 0.2
    suppression: float = 24.0
    reach: float = 37.5
    steepness: float = 0.2
    max_people: int = 30
    time_limit: float = 10.0

    def __post_init__(self):
        require_numbers(self, 1, None, "candidates", "max_people")
        require(0 < self.min_score < 1, "min_score", self.min_score, "above 0 and below 1")
        require_positive(self, "suppression", "reach", "steepness", "time_limit")


class Problem(NamedTuple):
    """Candidates of a picture, as nodes in the order of joints, and what they cost."""

    candidates: Candidates
    expected: Float[Array, "K M K 2"]  # where a candidate has each joint of its person, in pixels
    features: Float[Array, "N N 8"]
    unary: Float[Array, " N"]
    pairwise: Float[Array, "N N"]
    joints: Int32[Array, " N"]


def problem(
    maps: PartMaps,
    usable: Bool[ArrayLike, "H W"],
    model: PairModel,
    *,
    stride: float,
    decoding: Decoding,
    typical: Float[ArrayLike, "K K 2"] | None = None,
) -> Problem:
    """The candidates of a picture's maps and their costs.

    Args:
      maps: Of the network.
      usable: Cells on the picture.
      model: The regressions of pairs.
      stride: Pixels per cell.
      decoding: Its numbers.
      typical: Mean offsets from joint a to joint b in pixels, which "geometry" needs.

    Raises:
      ValueError: They are missing.
    """
    if decoding.features == "geometry" and typical is None:
        raise ValueError("features = 'geometry': needs the mean offsets between joints")
    candidates = find_candidates(
        maps.score,
        maps.offset,
        usable,
        count=decoding.candidates,
        stride=stride,
        radius=decoding.suppression,
        least=math.log(decoding.min_score / (1 - decoding.min_score)),
    )
    k, m = candidates.valid.shape
    joint = jnp.broadcast_to(jnp.arange(k, dtype=jnp.int32)[:, None], (k, m))
    x, y = candidates.cells[..., 0], candidates.cells[..., 1]
    offsets = jnp.asarray(maps.pairwise, jnp.float32)[y, x, joint]
    origins = stride * candidates.cells.astype(jnp.float32)
    points, flat = candidates.points.reshape(-1, 2), joint.reshape(-1)
    told = offsets.reshape(k * m, k, 2)
    if decoding.features == "geometry":
        told = jnp.asarray(typical, jnp.float32)[flat]
    features = pair_features(points, origins.reshape(-1, 2), told, flat)
    # What is always 0 gets no weight.
    seen = np.isin(np.arange(FEATURES), _SEEN.get(decoding.features, range(FEATURES)))
    features = jnp.where(seen, features, 0.0)
    scale = {"reach": decoding.reach, "steepness": decoding.steepness}
    return Problem(
        candidates,
        origins[:, :, None] + offsets,
        features,
        log_odds(candidates.logits.reshape(-1)),
        pair_costs(features, points, flat, model, **scale),
        flat,
    )


def solve(problem: Problem, skeleton: Skeleton, *, decoding: Decoding) -> Int32[Array, " N"]:
    """Who is who's: labels as those of `partition`, by the solver that is asked for."""
    valid = problem.candidates.valid.reshape(-1)
    if decoding.solver == "tree":
        c = problem.candidates
        walk = {"limbs": skeleton.limbs, "reach": decoding.reach}
        return tree_walk(c.points, c.logits, problem.expected, c.valid, **walk).reshape(-1)
    costs = problem.unary, problem.pairwise, valid
    if decoding.solver == "whole":
        return partition(*costs)
    if decoding.solver == "exact":
        from g_rmi.parts.exact import exact_partition  # slow to import: scipy's solvers

        def exact(unary, pairwise, valid, start):
            costs = (np.asarray(x) for x in (unary, pairwise, valid))
            how = {"start": np.asarray(start), "time_limit": decoding.time_limit}
            return exact_partition(*costs, **how).labels

        shape = jax.ShapeDtypeStruct(valid.shape, jnp.int32)
        start = partition(*costs)
        return jax.pure_callback(exact, shape, *costs, start, vmap_method="sequential")
    stages = jnp.asarray(np.array(regions(skeleton.names), np.int32))[problem.joints]
    return partition_in_stages(*costs, problem.joints, stages, count=STAGES)


def people(
    problem: Problem, labels: Int[ArrayLike, " N"], *, decoding: Decoding
) -> tuple[Poses, Bool[Array, "P K"]]:
    """The people of a partition in pixels, best first, and which joints were found."""
    c = problem.candidates
    shaped = jnp.asarray(labels).reshape(c.valid.shape)
    return assemble(shaped, c.points, c.logits, problem.expected, count=decoding.max_people)


def decode(
    maps: PartMaps,
    usable: Bool[ArrayLike, "H W"],
    model: PairModel,
    skeleton: Skeleton,
    *,
    stride: float,
    decoding: Decoding,
) -> tuple[Poses, Bool[Array, "P K"]]:
    """The people of a picture's maps, best first, and which of their joints were found.

    Fixed shapes, for `jit`, `vmap` and, but for the exact solver, export.
    """
    found = problem(maps, usable, model, stride=stride, decoding=decoding)
    return people(found, solve(found, skeleton, decoding=decoding), decoding=decoding)


def hulls(
    keypoints: Float[ArrayLike, "P K 2"], found: Bool[ArrayLike, "P K"]
) -> Float[Array, "P 4"]:
    """The smallest boxes (x0, y0, x1, y1) around the joints that were found; zeros without any."""
    keypoints, found = jnp.asarray(keypoints), jnp.asarray(found)
    there = found[..., None]
    low = jnp.min(jnp.where(there, keypoints, jnp.inf), axis=1, initial=jnp.inf)
    high = jnp.max(jnp.where(there, keypoints, -jnp.inf), axis=1, initial=-jnp.inf)
    boxes = jnp.concatenate([low, high], axis=-1)
    return jnp.where(found.any(axis=1)[:, None], boxes, 0.0)


def regions(names: Sequence[str]) -> tuple[int, ...]:
    """The stage in which each joint is solved, by its name."""
    found = []
    for name in names:
        stages = [i for i, parts in enumerate(_REGIONS, 1) if any(part in name for part in parts)]
        found.append(stages[0] if stages else 0)
    return tuple(found)
