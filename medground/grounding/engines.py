"""Which engine answers: torch."""

from pathlib import Path

from medground.models import grounder
from medground.models.grounder import Grounder


def load(folder: Path, device: str, engine: str) -> Grounder:
    """The model of a folder."""
    return grounder.load(folder, device)
