"""Training: one loop for every model, and the run folder that it writes."""

from lscgan.training.batches import Batches, Epochs, LabelSchedule, ScheduledBatches
from lscgan.training.cost import GPU, GPUS, StepCost, step_cost
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
    "GPU",
    "GPUS",
    "Batches",
    "Epochs",
    "LabelSchedule",
    "NotFiniteError",
    "ParameterError",
    "RunFolder",
    "ScheduledBatches",
    "StepCost",
    "Trainable",
    "TrainingSettings",
    "describe_runtime",
    "parameters",
    "pick_device",
    "pick_precision",
    "step_cost",
    "train",
]
