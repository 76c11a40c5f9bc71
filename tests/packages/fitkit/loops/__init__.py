from .evaluation import EvaluationLoop
from .fit import FitLoop

__all__ = ["EvaluationLoop", "FitLoop"]
