"""Training: one loop for every model, and the run folder that it writes."""

from lscgan.training.batches import Batches, Epochs, LabelSchedule, ScheduledBatches
from lscgan.training.loop import (
    NotFiniteError,
    Trainable,
    TrainingSettings,
    pick_device,
    pick_precision,
    train,
)
from lscgan.training.parameters import ParameterError, parameters
from lscgan.training.run_folder import RunFolder
from lscgan.training.runtime import describe_runtime

__all__ = [
    "Batches",
    "Epochs",
    "LabelSchedule",
    "NotFiniteError",
    "ParameterError",
    "RunFolder",
    "ScheduledBatches",
    "Trainable",
    "TrainingSettings",
    "describe_runtime",
    "parameters",
    "pick_device",
    "pick_precision",
    "train",
]
