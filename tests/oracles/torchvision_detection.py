"""torchvision's detection code on made-up numbers: anchors, codes, matches, losses, boxes.

    python -m tests.oracles.torchvision_detection    (needs torchvision)

writes tests/fixtures/torchvision.npz anew. Each of its pictures, `0/`, `1/` and so on, is one
forward pass of a region proposal network and of a box head whose outputs are given numbers.
"""

from pathlib import Path

import numpy as np

FIXTURE = Path(__file__).resolve().parent.parent / "fixtures" / "torchvision.npz"
PEOPLE = (3, 6, 0)  # of each picture

# Multiples of 8 and squared ratios: torchvision rounds its anchors to whole pixels.
STRIDE, SCALES, RATIOS = 8, (16, 32), (0.25, 1.0, 4.0)
CANVAS, PICTURE = (80, 128), (70, 115)  # rows, columns
# Thresholds and numbers as in the fields of g_rmi.config.DetectorConfig.
OPTIONS = {
    "rpn_positive": 0.6,
    "rpn_negative": 0.3,
    "candidates": 33,
    "proposals": 25,
    "rpn_nms_iou": 0.3,
    "box_positive": 0.3,
    "box_nms_iou": 0.1,
    "detections": 8,
    "min_score": 0.6,
}
# So large that everybody is sampled: random draws of two programs never agree.
SAMPLES = 2_000
WEIGHTS = (10.0, 10.0, 5.0, 5.0)
# Positives, negatives, size and largest share of positives; then what was drawn of each.
COUNTS = [
    (5, 400, 64, 0.25),
    (50, 400, 64, 0.25),
    (50, 20, 64, 0.25),
    (0, 9, 64, 0.5),
    (9, 0, 8, 1.0),
]


def picture(rng, people):
    """Annotated boxes, and what the two networks answer."""
    anchors = CANVAS[0] // STRIDE * (CANVAS[1] // STRIDE) * len(SCALES) * len(RATIOS)
    side = np.stack([rng.uniform(8, 30, people), rng.uniform(16, 60, people)], axis=1)
    corner = rng.uniform(size=(people, 2)) * (np.array(PICTURE[::-1]) - side)
    return {
        "boxes": np.concatenate([corner, corner + side], axis=1).round(2).astype(np.float32),
        "objectness": rng.normal(size=anchors).astype(np.float32),
        "codes": (1.5 * rng.normal(size=(anchors, 4))).round(2).astype(np.float32),
    }


def run_rpn(given):
    """Anchors, labels (1, 0, -1 for neither), target codes, losses and proposals."""
    import torch
    from torchvision.models.detection import _utils, anchor_utils, image_list, rpn

    grid = [n // STRIDE for n in CANVAS]
    each = len(SCALES) * len(RATIOS)

    class Head(torch.nn.Module):
        def forward(self, _):
            shape = (1, *grid, each, -1)
            maps = [torch.from_numpy(given[k]).reshape(shape) for k in ("objectness", "codes")]
            return tuple([m.permute(0, 3, 4, 1, 2).reshape(1, -1, *grid)] for m in maps)

    network = rpn.RegionProposalNetwork(
        anchor_utils.AnchorGenerator((SCALES,), (RATIOS,)),
        Head(),
        OPTIONS["rpn_positive"],
        OPTIONS["rpn_negative"],
        SAMPLES,
        0.5,
        *({"training": n, "testing": n} for n in (OPTIONS["candidates"], OPTIONS["proposals"])),
        OPTIONS["rpn_nms_iou"],
    )
    network.box_coder = _utils.BoxCoder(WEIGHTS)
    images = image_list.ImageList(torch.zeros(1, 3, *CANVAS), [PICTURE])
    targets = [{"boxes": torch.from_numpy(given["boxes"])}]
    features = {"0": torch.zeros(1, 1, *grid)}
    proposals, losses = network(images, features, targets)
    anchors = network.anchor_generator(images, list(features.values()))
    labels, matched = network.assign_targets_to_anchors(anchors, targets)
    codes = network.box_coder.encode(matched, anchors)[0]
    return {
        "anchors": anchors[0],
        "labels": labels[0].to(torch.int8),
        "target_codes": codes[labels[0] == 1],
        "decoded": network.box_coder.decode(torch.from_numpy(given["codes"]), anchors)[::16, 0],
        "objectness_loss": losses["loss_objectness"],
        "proposal_loss": losses["loss_rpn_box_reg"],
        "proposals": proposals[0],
    }


def run_box_head(rng, given, proposals):
    """Labels (1, 0), target codes and losses of proposals and annotated boxes; then people."""
    import torch
    from torchvision.models.detection import roi_heads

    head = roi_heads.RoIHeads(
        *(None, None, None),
        OPTIONS["box_positive"],
        OPTIONS["box_positive"],
        SAMPLES,
        0.5,
        WEIGHTS,
        OPTIONS["min_score"],
        OPTIONS["box_nms_iou"],
        OPTIONS["detections"],
    )
    boxes = torch.from_numpy(given["boxes"])
    targets = [{"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64)}]
    regions, _, labels, codes = head.select_training_samples([proposals], targets)
    n = len(regions[0])
    logits = rng.normal(size=(n, 2)).round(3).astype(np.float32)
    outputs = rng.normal(size=(n, 4)).round(2).astype(np.float32)
    both = torch.cat([torch.zeros(n, 4), torch.from_numpy(outputs)], dim=1)  # background, person
    losses = roi_heads.fastrcnn_loss(torch.from_numpy(logits), both, labels, codes)
    found = head.postprocess_detections(torch.from_numpy(logits), both, regions, [PICTURE])
    return {
        "regions": regions[0],
        "box_labels": labels[0].to(torch.int8),
        "box_target_codes": codes[0][labels[0] == 1],
        "box_logits": logits,
        "box_codes": outputs,
        "class_loss": losses[0],
        "box_loss": losses[1],
        "detections": found[0][0],
        "scores": found[1][0],
    }


def draw_counts():
    """How many positives and negatives torchvision's sampler draws."""
    import torch
    from torchvision.models.detection import _utils

    drawn = []
    for positives, negatives, size, share in COUNTS:
        labels = torch.cat([torch.ones(positives), torch.zeros(negatives), -torch.ones(7)])
        masks = _utils.BalancedPositiveNegativeSampler(size, share)([labels])
        drawn.append([int(mask[0].sum()) for mask in masks])
    return np.array(drawn)


def main():
    rng = np.random.default_rng(0)
    arrays = {"counts": draw_counts()}
    for i, people in enumerate(PEOPLE):
        given = picture(rng, people)
        outputs = run_rpn(given)
        outputs |= run_box_head(rng, given, outputs["proposals"])
        for name, x in (given | outputs).items():
            arrays[f"{i}/{name}"] = np.asarray(x)
    np.savez_compressed(FIXTURE, **arrays)


if __name__ == "__main__":
    main()
