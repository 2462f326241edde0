"""The paper's ablations: one function each.

    python -m experiments.sweep --config FUNCTION --data COCO --out runs/ablations

Each yields the points of its sweep as functions of the base that they vary, so that the paper's
networks and the embedded ones (`--base pose_synthetic`) share them. Its docstring is the lab note:
the question, what the paper says, what was measured here (experiments/README.md has the tables),
and what it trains. On COCO with the paper's networks none was run: that needs an accelerator.
"""

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any

from experiments.configs.detector_rfcn_small import FIELDS
from experiments.parts.experiment import DetectorExperiment, of_kind, override
from experiments.parts.points import (
    Base,
    Fields,
    Point,
    bottom_up,
    check_names,
    disks,
    head_of,
    looks_at_crops,
)
from g_rmi.config import OptimConfig, nearest, to_dict
from g_rmi.detector import DetectorConfig
from g_rmi.inference.settings import Ranking
from g_rmi.nn.network import NetworkConfig
from g_rmi.nn.resnet import ResNetConfig
from g_rmi.pose.heads.chain.head import Chain
from g_rmi.pose.heads.recurrent.head import Recurrent

Sweep = Callable[[Base], Iterator[Point]]
# What small detectors have of their own beside small ones of other kinds.
SMALL = {"rfcn": FIELDS}


def auxiliary(base: Base) -> Iterator[Point]:
    """Auxiliary head: does a second heatmap loss inside the ResNet help?

    Paper:   has one at an intermediate layer; no number.
    Ours:    pose_synthetic, 300 steps: AP .027 with and without.
    Trains:  two pose networks; the head has the base's weight, or else the heatmap's.
    """
    head = disks(base)
    weight = head.auxiliary_weight or head.heatmap_weight
    yield Point("with", {"model.head.auxiliary_weight": weight})
    yield Point("without", {"model.head.auxiliary_weight": 0.0})


def averaging(base: Base) -> Iterator[Point]:
    """Averaging: is the average of the weights better than the last ones?

    Paper:   evaluates Polyak-averaged weights.
    Ours:    pose_small on COCO-mini: AP .087 average, .092 last; pose_synthetic, 300 steps: .027,
             .029.
    Trains:  one pose network, of which both are evaluated: the average does not change the steps.
    """
    fields = {"optim.ema_decay": base.pose.optim.ema_decay or OptimConfig().ema_decay}
    yield Point("average", fields)
    yield Point("last weights", fields, averaged=False)


def box_source(base: Base) -> Iterator[Point]:
    """Box source: how much do better person boxes help?

    Paper:   its "fast" (600 x 900), its "accurate" detector (800 x 1200) and annotated boxes.
    Ours:    pose_synthetic, 300 steps: AP .006, .007, .027.
    Trains:  one pose network, two detectors: the base's and one on canvases of 3/4 of its size.
    """
    canvas = base.detector.model.canvas if base.detector else (800, 1200)
    fast = tuple(side * 3 // 4 for side in canvas)
    yield Point("fast", boxes="detector", detector={"model.canvas": fast})
    yield Point("accurate", boxes="detector")
    yield Point("ground truth")


def candidates(base: Base) -> Iterator[Point]:
    """Candidates: how many of a joint must the bottom-up network keep?

    Article: Pishchulin et al. (2016) keep the 100 best parts of all joints, later some 20 a joint.
    Ours:    docs/bottom_up.md: AP .024 .033 .035 .036 for 2, 5, 10 and 20.
    Trains:  one bottom-up network.
    """
    bottom_up(base)
    for count in (2, 5, 10, 20, 40):
        yield Point(f"{count} a joint", pose_test={"model.decoding.candidates": count}, costs=True)


def cascade(base: Base) -> Iterator[Point]:
    """Cascade: does what a detector of parts sees help a regression of all joints?

    Article: Bulat and Tzimiropoulos (2016): detection alone < regression alone < both; trained in
             three steps, each from the weights of the one before.
    Ours:    docs/heads.md, 600 steps: AP .114 detection, .000 regression, .015 at once, .003 in
             steps.
    Trains:  the base, the detector alone, the regression alone, the cascade at once, and in three
             steps of a third of the time each. Look at the hidden joints.
    """
    head = f"{base.pose.model.head.kind}, as the base"
    yield Point(head, costs=True)
    fields = _other_heads(base)["cascade"]
    trains = "model.head.trains"
    yield Point("detection only", {**fields, trains: "detection"}, costs=True)
    sees = {"model.head.regression_sees": "picture"}
    yield Point("regression only", {**fields, **sees}, costs=True)
    yield Point("cascade, at once", fields, costs=True)
    third = {**fields, "train.steps": max(1, base.pose.train.steps // 3)}
    before = tuple({**third, trains: step} for step in ("detection", "regression"))
    yield Point("cascade, in three steps", third, before=before, costs=True)


def chain(base: Base) -> Iterator[Point]:
    """Chain: what does a joint gain from those before it?

    Article: Gkioxari et al. (2016): 1 to 3 points of PCKh over joints by themselves (from memory).
    Ours:    not run.
    Trains:  five networks with the head "chain". Hypotheses and the oracle, which is told where the
             joints before are and so says what a chain could gain at most, are test-time alone.
    """
    head = head_of(base, Chain)
    yield Point("every joint by itself", {"model.head.feedback": "none"})
    yield Point("truth always fed in training", {"model.head.truth_steps": 0})
    less = head.truth_steps or max(1, base.pose.train.steps * 2 // 3)
    yield Point("truth fed less and less", {"model.head.truth_steps": less})
    given = {"model.head.truth_steps": less, "model.head.beams": 1}
    yield Point("all probabilities fed", given | {"model.head.feedback": "map"})
    yield Point("reversed order", {"model.head.truth_steps": less, "model.head.reverse": True})
    given = {"model.head.truth_steps": less}
    yield Point("5 hypotheses", given, pose_test={"model.head.beams": 5})
    told = {"model.head.oracle": True, "model.head.beams": 1}
    yield Point("oracle: told the truth", given, pose_test=told)


def crop_depth(base: Base) -> Iterator[Point]:
    """Crop x depth: larger crops or a deeper network?

    Paper:   257 x 185 and 353 x 257, ResNet-50 and ResNet-101; both help, and cost.
    Ours:    pose_synthetic, 300 steps (ResNet-26 and 50): larger crops help most.
    Trains:  four pose networks, on the base's crops and on 8/11 of them, on the grid of its stride.
    """
    model = looks_at_crops(base).model
    large = model.crop_height, model.crop_width
    stride = model.output_stride
    small = tuple(max(1, round((side - 1) * 8 / 11 / stride)) * stride + 1 for side in large)
    for depth in (26, 50) if resnet_of(model).depth == 26 else (50, 101):
        for height, width in (small, large):
            crop = {"model.crop_height": height, "model.crop_width": width}
            fields = crop | {"model.backbone.depth": depth}
            yield Point(f"ResNet-{depth}, {height} x {width}", fields)


def decoding(base: Base) -> Iterator[Point]:
    """Decoding: do the offsets, and their votes, find joints better than the heatmap alone?

    Paper:   heatmap and offsets fused by Hough voting, against the heatmap's maximum.
    Ours:    pose_small on COCO-mini: AP .080 argmax, .101 with the offset there, .087 Hough;
             pose_synthetic, 300 steps: .023, .032, .027. The weights of the package: Hough .402,
             with the kernel of OKS .410.
    Trains:  one pose network. Annotated boxes, so that nothing but the joints differs.
    """
    del base
    yield Point("argmax", settings={"decoding": "argmax"})
    yield Point("argmax + offset", settings={"decoding": "argmax_offset"})
    yield Point("Hough voting", settings={"decoding": "hough"})
    yield Point("Hough voting, OKS's kernel", settings={"decoding": "hough_oks"})


def detector_axes(base: Base) -> Iterator[Point]:
    """Detectors' axes: what do half the canvas, another stride and a deeper trunk change?

    Article: Huang et al. (2017): half the sides cost 16 % of AP and 27 % of the time, stride 8 for
             16 gains 5 % and costs 63 %; a better trunk helps Faster R-CNN and R-FCN, SSD little.
    Ours:    not run.
    Trains:  four detectors of each kind.
    """
    detector = named(base)
    model = detector.model
    short, long = model.canvas
    deeper = {26: 50, 50: 101}.get(resnet_of(model).depth, 50)
    changes = {
        "": {},
        ", half the canvas": {"model.canvas": (short // 2, long // 2)},
        ", stride {}": {"model.output_stride": 8 if model.output_stride == 16 else 16},
        ", ResNet-{}": {"model.backbone.depth": deeper},
    }
    for kind in kinds(detector):
        for text, change in changes.items():
            other = override(detector, {f"model.{n}": v for n, v in kind.items()} | change)
            name = other.model.kind + text.format(*change.values())
            fields = {f"model.{n}": v for n, v in to_dict(other.model).items()}
            yield Point(name, boxes="detector", counts="boxes", detector=fields)


def detectors(base: Base) -> Iterator[Point]:
    """Detectors: Faster R-CNN, R-FCN or SSD, and with how many proposals?

    Article: Huang et al. (2017): R-FCN's time hardly depends on proposals, Faster R-CNN loses
             little with few; SSD is fast, and poor on small people.
    Ours:    docs/speed_accuracy.md: on photographs AP .185 .158 .094 with 50 proposals; 12 to 93
             ms for 10 to 300 proposals, 15 to 19, and 9 for SSD.
    Trains:  one detector of each kind, alike in trunk, canvas, data and steps. Proposals differ at
             test time alone, and are the article's.
    """
    detector = named(base)
    for kind in kinds(detector):
        fields = {f"model.{name}": value for name, value in kind.items()}
        point = Point(kind["kind"], boxes="detector", counts="boxes", detector=fields)
        if "proposals" not in kind:
            yield point
            continue
        for count in (10, 50, 100, 300):
            test = {"model.proposals": count, "model.candidates": max(kind["candidates"], count)}
            name = f"{kind['kind']}, {count} proposals"
            yield dataclasses.replace(point, name=name, detector_test=test)


def named(bases: Base) -> DetectorExperiment:
    """The base's detector; a ValueError if there is none."""
    if bases.detector is None:
        raise ValueError("this sweep compares detectors: name a config or training with --detector")
    return bases.detector


def resnet_of(model: NetworkConfig) -> ResNetConfig:
    """The ResNet of a sweep over its depths; a ValueError if the base has another backbone."""
    if isinstance(model.backbone, ResNetConfig):
        return model.backbone
    raise ValueError(f"this sweep compares ResNets; the base's backbone is {model.backbone}")


def kinds(detector: DetectorExperiment) -> Iterator[dict[str, Any]]:
    """The settings of a detector of each kind, alike in trunk and canvas; a small R-FCN's own."""
    for choice in typing.get_args(DetectorConfig):
        if choice.kind == detector.model.kind:
            yield to_dict(detector.model)
            continue
        own = SMALL.get(choice.kind, {}) if detector.model.backbone.depth == 26 else {}
        yield to_dict(of_kind(detector, choice.kind, own).model)


def geometry(base: Base) -> Iterator[Point]:
    """Geometry: what must two candidates know to be one person's?

    Article: Insafutdinov et al. (2016): what the picture says of the pair beats its geometry alone,
             both directions beat one, angles help a little.
    Ours:    not run.
    Trains:  one bottom-up network; the regressions are fitted anew for every point.
    """
    bottom_up(base)
    names = {
        "all": "both ways, with angles",
        "distances": "both ways, no angles",
        "one_way": "one way",
        "geometry": "geometry alone",
    }
    for kind, name in names.items():
        yield Point(name, pose_test={"model.decoding.features": kind}, costs=True)


def heads(base: Base) -> Iterator[Point]:
    """Heads: which of them finds joints best on the same trunk, crops, data and steps?

    Paper:   has disks and offsets, fused by Hough voting, and reads itself against the systems
             whose heads these are.
    Ours:    docs/heads.md: on photographs AP .138 for disks, .100 for Gaussians and the recurrent
             head, .083 chain, .076 parts, .015 cascade. pose_synthetic, 300 steps: .025 for disks,
             .001 for Gaussians.
    Trains:  one pose network with each head. Gaussians are a third as wide as the paper's disks,
             about as in Xiao et al., 2018 (sigma 2 of 64 columns), the other heads' disks half as
             wide. Other seeds: `--seed 1 --out DIR`.
    """
    others = _other_heads(base)
    yield Point("disks, offsets, Hough voting", costs=True)
    for decoding, name in {"dark": "Taylor step", "quarter": "quarter", "argmax": "argmax"}.items():
        settings = {"decoding": decoding}
        yield Point(f"Gaussians, {name}", others["gaussian"], settings=settings, costs=True)
    yield Point("parts (DeeperCut)", others["parts"], costs=True)
    yield Point("cascade (Bulat)", others["cascade"], costs=True)
    yield Point("recurrent (Belagiannis)", others["recurrent"], costs=True)
    yield Point("chain (Gkioxari)", others["chain"], costs=True)


def _other_heads(base: Base) -> dict[str, Fields]:
    """Fields of each head beside the paper's, alike in scale to what the base has.

    Disks are half as wide as the base's, which is about what the articles' are for people of its
    size, Gaussians a third.
    """
    model, radius = base.pose.model, disks(base).radius
    stride = 4 if model.fpn_channels else min(8, model.output_stride)
    heads = {
        "gaussian": {"sigma": radius / 3},
        "parts": {"radius": radius / 2, "offset_std": radius / 4, "loss_stride": stride},
        "cascade": {
            "radius": radius / 2,
            "sigma": radius / 3,
            "hourglass_channels": model.fpn_channels or 256,
        },
        "recurrent": {"sigma": radius / 3, "channels": (model.fpn_channels or 256) // 4},
        "chain": {
            "target_sigma": radius / 3,
            "channels": (model.fpn_channels or 256) // 4,
            "doublings": 0 if model.fpn_channels else 1,
            "truth_steps": max(1, base.pose.train.steps * 2 // 3),
        },
    }
    return {
        kind: {"model.head.kind": kind} | {f"model.head.{k}": v for k, v in fields.items()}
        for kind, fields in heads.items()
    }


def iterations(base: Base) -> Iterator[Point]:
    """Iterations: does running the recurrent block again find joints better?

    Article: Belagiannis & Zisserman (2017): feed-forward < one iteration < two; limb maps help in
             training (from memory, no numbers).
    Ours:    docs/heads.md, 600 steps: AP .092 .103 .100 after 0, 1, 2; .113 without limb maps.
    Trains:  two networks with the head "recurrent"; one is read at every iteration.
    """
    head = head_of(base, Recurrent)
    for count in range(head.iterations + 1):
        name = "feed-forward" if count == 0 else f"iteration {count}"
        yield Point(name, pose_test={"model.head.read_iteration": count})
    yield Point("without limb maps", {"model.head.limb_weight": 0.0})


def loss_weight(base: Base) -> Iterator[Point]:
    """Lambda: how much should the heatmap weigh against the offsets?

    Paper:   4 to 1.
    Ours:    pose_synthetic, 300 steps: AP .027 to .032, no trend.
    Trains:  five pose networks, 1/4 to 4 times the base's heatmap weight; the auxiliary head keeps
             its own.
    """
    for factor in (0.25, 0.5, 1.0, 2.0, 4.0):
        weight = disks(base).heatmap_weight * factor
        name = f"heatmap {weight:g} : offset {disks(base).offset_weight:g}"
        yield Point(name, {"model.head.heatmap_weight": weight})


def oks_threshold(base: Base) -> Iterator[Point]:
    """OKS-NMS threshold: how similar may two people be?

    Paper:   .1 to .9 on the boxes of its detector; .5 is its choice.
    Ours:    pose_small, detector_small on COCO-mini: AP .062 .064 .064 .063 .059, without .051.
    Trains:  one pose network, one detector.
    """
    del base
    for threshold in (0.1, 0.3, 0.5, 0.7, 0.9):
        yield Point(f"{threshold}", boxes="detector", settings={"oks_nms": threshold})
    yield Point("none", boxes="detector", settings={"oks_nms": 1.0})


def radius(base: Base) -> Iterator[Point]:
    """R: how large should a joint's disk be?

    Paper:   R = 25 pixels of a 353 x 257 crop.
    Ours:    pose_synthetic, 300 steps: the paper's R is best (AP .027; half of it .022).
    Trains:  four pose networks, 1/4 to twice the base's R, that of the targets and of the votes.
    """
    for factor in (0.25, 0.5, 1.0, 2.0):
        r = disks(base).radius * factor
        yield Point(f"R = {r:g}", {"model.head.radius": r})


def score(base: Base) -> Iterator[Point]:
    """Score: does the pose know better than the box how good it is?

    Paper:   the mean of the joints' maxima ranks better than the score of the box.
    Ours:    pose_small, detector_small on COCO-mini: AP .064 pose score, .026 box score, .053 their
             product.
    Trains:  one pose network, one detector.
    """
    del base
    for ranking in typing.get_args(Ranking):
        yield Point(ranking, boxes="detector", settings={"ranking": ranking})


def solver(base: Base) -> Iterator[Point]:
    """Solver: what does deciding everything at once gain over joining joint by joint?

    Article: Insafutdinov et al. (2016): in stages as good as at once, and much sooner.
    Ours:    docs/bottom_up.md: AP .036 in stages, .030 at once, .033 by walking, .029 exact.
    Trains:  one bottom-up network.
    """
    bottom_up(base)
    names = {"stages": "in stages", "whole": "at once", "tree": "tree walk", "exact": "exact"}
    for kind, name in names.items():
        yield Point(name, pose_test={"model.decoding.solver": kind}, costs=True)


# Every sweep is a public function of this file that takes a base alone.
SWEEPS: dict[str, Sweep] = {
    name: function
    for name, function in list(globals().items())
    if inspect.isfunction(function)
    and not name.startswith("_")
    and function.__module__ == __name__
    and list(inspect.signature(function).parameters) == ["base"]
}


def get(name: str, base: Base) -> list[Point]:
    """The points of that sweep; a ValueError names the nearest if there is none."""
    if name not in SWEEPS:
        raise ValueError(f"no sweep {name!r}{nearest(name, SWEEPS)}")
    return check_names(SWEEPS[name](base))


def title(name: str) -> str:
    """What the sweep asks: the first line of its docstring."""
    return (SWEEPS[name].__doc__ or name).partition("\n")[0].rstrip(".")


def listing() -> str:
    """All sweeps, a line each."""
    return "\n".join(f"  {name:<{max(map(len, SWEEPS))}}  {title(name)}" for name in SWEEPS)
