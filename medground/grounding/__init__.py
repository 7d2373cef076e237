"""Phrases + images + a model -> groundings, and what is made of them: pictures, tables, pages, maps.

questions    what to look for: words, or the findings of a report
answers      the stage itself: each phrase with its grounding
calibration  scores that mean frequencies, boxes that keep a promise; `fitting` makes it
engines      what answers: torch, or an exported graph
formats      JSON lines, CSV, COCO; `structured_report` writes DICOM
heatmaps     a map of each phrase; `page`: all of them to look at; `overlays`: drawn over their images
"""

from medground.grounding.overlays import draw_overlays
from medground.grounding.phrases import phrases_of, phrases_of_report
from medground.grounding.predict import ground_on_image, ground_phrases

__all__ = ["draw_overlays", "ground_on_image", "ground_phrases", "phrases_of", "phrases_of_report"]
