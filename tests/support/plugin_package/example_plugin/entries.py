"""An entry that `example_plugin` names by a string."""

from medground import registry

MEAN_BOXES = registry.Detector(
    target="example_plugin.detector:MeanBoxes",
    trainer="example_plugin.detector:train",
    help="the mean box of each region",
)

WHOLE_IMAGE = registry.ModelAdapter(
    target="example_plugin.whole_image:WholeImage", help="the whole image", model_types=("whole-image",)
)
