"""Evaluation: judges that read a picture, and measures that use them on any model."""

from lscgan.evaluation.class_control import (
    ClassFidelity,
    ClassReport,
    ReadsClasses,
    class_control,
    class_fidelity,
)
from lscgan.evaluation.class_judge import ClassJudge, class_accuracy
from lscgan.evaluation.control import ControlReport, control
from lscgan.evaluation.editing import EditReport, edit, edit_report
from lscgan.evaluation.factors import FACTORS, CodeReport, code_reports, stroke_factors
from lscgan.evaluation.fidelity import FidelityReport, fidelity
from lscgan.evaluation.gate import FaceGate
from lscgan.evaluation.intervals import mean_interval, wilson_interval
from lscgan.evaluation.judge import (
    AttributeJudge,
    AttributeReport,
    FaceJudge,
    JudgeReport,
    attribute_report,
    judge_report,
)
from lscgan.evaluation.judges import CurvatureJudge, Judges
from lscgan.evaluation.mouth import MouthJudge
from lscgan.evaluation.mutual_information import (
    Channel,
    Information,
    ReadsCodes,
    entropy,
    mutual_information,
)
from lscgan.evaluation.posterior import PosteriorReport, posterior
from lscgan.evaluation.response import Response, responses
from lscgan.evaluation.reversal import Dose, ReversalReport, reversal

__all__ = [
    "FACTORS",
    "AttributeJudge",
    "AttributeReport",
    "Channel",
    "ClassFidelity",
    "ClassJudge",
    "ClassReport",
    "CodeReport",
    "ControlReport",
    "CurvatureJudge",
    "Dose",
    "EditReport",
    "FaceGate",
    "FaceJudge",
    "FidelityReport",
    "Information",
    "JudgeReport",
    "Judges",
    "MouthJudge",
    "PosteriorReport",
    "ReadsClasses",
    "ReadsCodes",
    "Response",
    "ReversalReport",
    "attribute_report",
    "class_accuracy",
    "class_control",
    "class_fidelity",
    "code_reports",
    "control",
    "edit",
    "edit_report",
    "entropy",
    "fidelity",
    "judge_report",
    "mean_interval",
    "mutual_information",
    "posterior",
    "responses",
    "reversal",
    "stroke_factors",
    "wilson_interval",
]
