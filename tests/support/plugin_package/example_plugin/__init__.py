"""A package that adds one entry to each table of medground; this module imports only the registry."""

from medground import registry

AVERAGING = registry.Architecture(
    target="example_plugin.architecture:Averaging", help="one box from the mean of text and patches"
)
CENTER = registry.Objective(
    target="example_plugin.objective:Center",
    help="centers of boxes only",
    stages=frozenset({"pretrain", "finetune"}),
    losses={"center": registry.Loss(weight=2.0)},
    fuses=True,
    trains_boxes=True,
)
MEAN_BOXES = "example_plugin.entries:MEAN_BOXES"  # the value of an entry point may be such a string
RECTANGLES = registry.MaskFormat(
    target="example_plugin.masks:read", help="NAME.rect with one rectangle per line", suffixes=(".rect",)
)
CENTER_INSIDE = registry.Protocol(
    target="example_plugin.protocol:CENTER_INSIDE", help="the center of the first box is in the true box"
)
TSV_INPUT = registry.PredictionFormat(target="example_plugin.tsv:read", help="tab-separated boxes")
TSV_OUTPUT = registry.OutputFormat(target="example_plugin.tsv:write", help="tab-separated boxes")
TOY = registry.Dataset(
    target="example_plugin.dataset:read",
    help="Tab-separated phrases -> phrases with boxes.",
    records="phrases",
    example="phrases.tsv -o phrases.jsonl",
)
