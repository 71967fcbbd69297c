"""Labelled images, held in memory as bytes, and where they come from."""

from lscgan.data.classes import CLASSES
from lscgan.data.labelled import LabelledImages
from lscgan.data.sources import load

__all__ = ["CLASSES", "LabelledImages", "load"]
