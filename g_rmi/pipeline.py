"""Photographs in, people out: the door for Python users."""

from g_rmi.inference.load import SHIPPED as SHIPPED
from g_rmi.inference.pipeline import PosePipeline as PosePipeline
from g_rmi.inference.settings import Settings as Settings
from g_rmi.inference.tracking import Tracker as Tracker
from g_rmi.inference.tracking import Tracking as Tracking
