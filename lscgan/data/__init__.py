"""Labelled images, held in memory as bytes, and where they come from."""

from lscgan.data.classes import CLASSES
from lscgan.data.description import Description, describe
from lscgan.data.labelled import LabelledImages
from lscgan.data.sources import load

__all__ = ["CLASSES", "Description", "LabelledImages", "describe", "load"]
