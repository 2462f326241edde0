"""DeeperCut's part detectors on ResNet-101: stride 16, one transposed convolution to stride 8.

Command:   make train CONFIG=pose_parts_resnet101 DATA=COCO
               ARGS="--pretrained resnet101.safetensors"
Article:   Insafutdinov et al., ECCV 2016. Of the authors' TensorFlow release: batch 1, SGD with
           momentum .9 (from memory), frozen norms, rates .005 to step 10,000, .02 to 430,000, .002
           to 730,000, .001 to the end, 1.8 M steps on COCO; scale jitter .85 to 1.15. One person on
           MPII: PCKh@.5 .885, second-hand.
Here:      crops of one person as the paper's in place of whole pictures; 353 rows show people some
           280 pixels high instead of 338, and radius and offset scale follow. The rate rises to .02
           in 10,000 steps and drops by 10 twice, at 430,000 and 730,000.
Ours:      not run: it needs COCO, ImageNet weights and an accelerator.
"""

from data_pipeline.config import PoseAugmentation, PoseDataConfig
from experiments.parts.experiment import PoseExperiment
from g_rmi.config import OptimConfig, TrainConfig
from g_rmi.pose.config import PoseConfig
from g_rmi.pose.heads.parts import Parts


def get_config() -> PoseExperiment:
    """353 x 257 crops; the article's targets, scaled to the people in them."""
    return PoseExperiment(
        model=PoseConfig(output_stride=16, norm="frozen", head=Parts(radius=12.0, offset_std=6.1)),
        data=PoseDataConfig(augmentation=PoseAugmentation(scale=(1.09, 1.47))),
        optim=OptimConfig(
            learning_rate=0.02,
            momentum=0.9,
            schedule="steps",
            boundaries=(430_000, 730_000),
            warmup_steps=10_000,
            ema_decay=0.0,
        ),
        train=TrainConfig(steps=1_800_000, batch_size=1),
    )
