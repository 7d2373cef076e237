"""Phrases + images + a model -> groundings, and what is made of them: pictures, tables, pages, maps.

answers      the stage itself: each phrase with its grounding
overlays     each answer drawn over its image
"""

from medground.grounding.answers import ground_on_film, ground_phrases, inside, phrases_of
from medground.grounding.overlays import draw_overlays

__all__ = ["draw_overlays", "ground_on_film", "ground_phrases", "inside", "phrases_of"]
