"""Evaluation: judges that read a picture, and measures that use them on any model."""

from lscgan.evaluation.control import ControlReport, control
from lscgan.evaluation.editing import EditReport, edit, edit_report
from lscgan.evaluation.fidelity import FidelityReport, fidelity
from lscgan.evaluation.gate import FaceGate
from lscgan.evaluation.intervals import mean_interval, wilson_interval
from lscgan.evaluation.judge import FaceJudge, JudgeReport, judge_report
from lscgan.evaluation.judges import CurvatureJudge, Judges
from lscgan.evaluation.mouth import MouthJudge
from lscgan.evaluation.posterior import PosteriorReport, posterior
from lscgan.evaluation.reversal import Dose, ReversalReport, reversal

__all__ = [
    "ControlReport",
    "CurvatureJudge",
    "Dose",
    "EditReport",
    "FaceGate",
    "FaceJudge",
    "FidelityReport",
    "JudgeReport",
    "Judges",
    "MouthJudge",
    "PosteriorReport",
    "ReversalReport",
    "control",
    "edit",
    "edit_report",
    "fidelity",
    "judge_report",
    "mean_interval",
    "posterior",
    "reversal",
    "wilson_interval",
]
