"""An entry that `example_plugin` names by a string."""

from medground import registry

MEAN_BOXES = registry.Detector(
    target="example_plugin.detector:MeanBoxes",
    trainer="example_plugin.detector:train",
    help="the mean box of each region",
)
