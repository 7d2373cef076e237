"""Phrases + images + a model -> groundings, and files made from them: overlays, tables, pages, heat maps.

model        the model that `medground.load` returns and `medground ground` uses
phrases      phrase records from texts, or from the findings of a report
predict      the stage itself: each phrase with its grounding
calibration  calibrated scores and box margins; `fitting` fits them
flip         detection and correction of flipped images
backends     torch, or an exported graph
outputs      writes files of groundings for `ground` and `render`; `resume` continues an interrupted file
formats      JSON lines, CSV, COCO, RadFact; `annotation_tools` writes Label Studio and CVAT
dicom_source DICOM objects: `structured_report` and `segmentation`
heatmaps     a map per phrase; `page`: an HTML page; `overlays`: images with boxes; `copies`: PNG copies
rendering    the images of groundings that others made
"""
