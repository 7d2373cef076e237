"""Evaluation: scores with intervals from predictions and truth; metrics, protocols, baseline, pictures."""

from medground.evaluation.front import Scores, evaluate

__all__ = ["Scores", "evaluate"]
