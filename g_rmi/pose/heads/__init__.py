"""The heads of the pose network. A new one is a file here and its name in the line below."""

from g_rmi.pose.heads.cascade import Cascade
from g_rmi.pose.heads.chain.head import Chain
from g_rmi.pose.heads.disks import Disks
from g_rmi.pose.heads.gaussian import GaussianHeatmaps
from g_rmi.pose.heads.parts import Parts
from g_rmi.pose.heads.recurrent.head import Recurrent

Head = Disks | GaussianHeatmaps | Parts | Cascade | Recurrent | Chain
