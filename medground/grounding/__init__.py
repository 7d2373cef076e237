"""Phrases + images + a model -> groundings, and files made from them: overlays, tables, pages, heat maps.

model        the model that `medground.load` returns and `medground ground` uses
phrases      phrase records from texts, or from the findings of a report
predict      the stage itself: each phrase with its grounding
calibration  calibrated scores and box margins; `fitting` fits them
flip         detection and correction of flipped images
backends     torch, or an exported graph
formats      JSON lines, CSV, COCO; `structured_report` writes DICOM
outputs      writes all of them; `resume` continues an interrupted file
heatmaps     a map per phrase; `page`: an HTML page; `overlays`: boxes drawn on images
"""

from medground.grounding.overlays import draw_overlays
from medground.grounding.phrases import phrases_of, phrases_of_report
from medground.grounding.predict import ground_on_image, ground_phrases

__all__ = ["draw_overlays", "ground_on_image", "ground_phrases", "phrases_of", "phrases_of_report"]
