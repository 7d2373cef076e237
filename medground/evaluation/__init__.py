"""Evaluation: predictions and truth in, scores with intervals out; metrics, protocols, baseline, pictures."""

from medground.evaluation.front import Scores, evaluate

__all__ = ["Scores", "evaluate"]
