"""A small pose network for real photographs, trained from scratch on CPUs.

Command:   python -m experiments.train --config pose_small --data COCO_MINI LSPET COCO_EXTRA
               --weights 3 6 1 --workdir runs/pose_small
Hardware:  2 cores of an AMD EPYC, busy with other work: 80 minutes for 86 k crops.
Ours:      AP .070, AP50 .219 on 125 photographs of COCO val2017 with annotated boxes; PCK@.2 of
           the torso .354 on 467 of LSPET. After 78 k crops more (--init, --learning-rate 1.5e-3)
           AP .087, AP50 .270; PCK .415; after 122 k more (--weights 3 5 2, --averaging 0.999)
           AP .137, AP50 .395; PCK .439. After 228 k more of the same, the last 170 k with these
           tighter crops (before: --box-scale 1.25 --scale 0.9 1.6): AP .194, AP50 .485;
           PCK .496. After 165 k more (--optimizer muon): AP .213, AP50 .536; PCK .519. After
           187 k more with stronger augmentation: AP .214, AP50 .539; PCK .512; the mean of the
           last two weights: AP .218, AP50 .550; PCK .533. After 173 k more from there AP .232,
           AP50 .557; PCK .543; with --box-scale 1.0 at prediction .250, .599; .548. After 96 k more
           on 161 x 129 crops (--radius 10, --dtype bfloat16) .248, .550; .556. After 159 k more as
           a ResNet-50 (--depth 50, the last 82 k with --output-stride 16) .283, .614; .576. After
           103 k more (--copy-paste 0.3, joints labelled anew) .304, .637; .589. Decoded with the
           kernel of OKS .320, .667; .610. Mean of two branches after 192 k more .331, .677; .639;
           of two more after 238 k more .348, .685; .642. Half as wide again (--width 48
           --fpn-channels 96) after 2,406 k more on one H200 in 8 minutes (--turned 0.25,
           --batch-size 256) .400, .717; .731; mean with two branches of 86 k more
           .410, .733; .734.
"""

from experiments.parts.experiment import PoseExperiment
from g_rmi.config import OptimConfig, PoseAugmentation, PoseDataConfig, TrainConfig
from g_rmi.pose.config import PoseConfig
from g_rmi.pose.heads.disks import Disks


def get_config() -> PoseExperiment:
    """The embedded default's network on larger crops, with strong augmentation."""
    return PoseExperiment(
        model=PoseConfig(
            depth=26,
            width=32,
            output_stride=32,
            fpn_channels=64,
            crop_height=129,
            crop_width=97,
            box_scale=1.1,
            head=Disks(radius=8.0, loss_stride=4, decoding="hough_oks"),
        ),
        data=PoseDataConfig(
            augmentation=PoseAugmentation(
                scale=(0.85, 1.3),
                shift=0.05,
                rotation=40.0,
                colour=0.4,
                half_body=0.1,
                occlusion=0.3,
            ),
            unlabelled="ignore",
            threads=4,
        ),
        optim=OptimConfig(
            optimizer="adamw",
            learning_rate=2e-3,
            weight_decay=0.05,
            schedule="cosine",
            warmup_steps=200,
            clip_norm=1.0,
            averaging=0.998,
        ),
        train=TrainConfig(
            steps=2_700,
            batch_size=32,
            log_every=50,
            evaluate_every=1_000,
            checkpoint_every=250,
        ),
    )
