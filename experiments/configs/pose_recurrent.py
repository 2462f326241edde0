"""Belagiannis & Zisserman's recurrent pose network on its own trunk, 249 x 249 crops.

Command:   python -m experiments.train --config pose_recurrent --data COCO --workdir runs/recurrent
Article:   FG 2017 (arXiv 2016), one person in the middle. Of the authors' training code: layers,
           targets, losses, batch 20, momentum .95, 50 epochs from scratch, rates 1e-5 (30 epochs),
           5e-6 (5), 1e-6 (15); rotation up to 40 degrees and scale .7 to 1.3, each with
           probability .5. LSP PCK@.2 .852; MPII PCKh@.5 .881 (from memory).
Here:      epochs are COCO's, one drop of the rate by 10 at 35. The article's loss is a sum, ours is
           divided by K H W: its rate times 17 x 63 x 63, if its optimiser divides by the batch,
           which is doubtful. Scale is drawn always.
Ours:      not run: it needs COCO and an accelerator.
"""

from data_pipeline.config import PoseAugmentation, PoseDataConfig
from experiments.parts.experiment import PoseExperiment
from g_rmi.config import OptimConfig, TrainConfig
from g_rmi.pose.config import PoseConfig
from g_rmi.pose.heads.recurrent.head import Recurrent

_EPOCH = 149_813 // 20  # COCO's people


def get_config() -> PoseExperiment:
    """The article's recipe for COCO's joints."""
    return PoseExperiment(
        model=PoseConfig(
            crop_height=249,
            crop_width=249,
            head=Recurrent(trunk="article", decoding="argmax"),
        ),
        data=PoseDataConfig(
            augmentation=PoseAugmentation(scale=(0.9, 1.6), rotation=40.0, rotation_probability=0.5)
        ),
        optim=OptimConfig(
            learning_rate=0.675,
            momentum=0.95,
            schedule="steps",
            boundaries=(35 * _EPOCH,),
            ema_decay=0.0,
        ),
        train=TrainConfig(steps=50 * _EPOCH, batch_size=20),
    )
