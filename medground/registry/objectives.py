"""The objectives of medground itself, in the order in which the command line lists them."""

from medground.registry.entries import Loss, Objective, Table

PRETRAIN, FINETUNE = "pretrain", "finetune"

AGP = {
    "l1": Loss(weight=5.0),
    "giou": Loss(weight=2.0),
    "present": Loss(weight=1.0, published=False),
    "score": Loss(weight=1.0, requires="several-boxes", published=False),
    "near": Loss(weight=1.0, requires="several-boxes", published=False),
}
ASG = {
    "ira": Loss(weight=1.0),
    "arsa": Loss(weight=1.0),
    "irl": Loss(weight=5.0),
    "erl": Loss(weight=1.0),
}
OBJECTIVES = Table(
    "medground.objectives",
    Objective,
    {
        "agp": Objective(
            target="medground.objectives.agp:AGP",
            help="boxes of region names, sentences and phrases",
            stages=frozenset({PRETRAIN, FINETUNE}),
            losses=AGP,
            fuses=True,
            trains_boxes=True,
        ),
        "agp-corners": Objective(
            target="medground.objectives.agp:Corners",
            help="agp with L1 over the corners of boxes, as in its code",
            stages=frozenset({PRETRAIN, FINETUNE}),
            losses=AGP,
            fuses=True,
            trains_boxes=True,
        ),
        "asg": Objective(
            target="medground.objectives.asg:ASG",
            help="images and regions to reports and sentences, with 40 tags",
            stages=frozenset({PRETRAIN}),
            losses=ASG,
            reads_reports=True,
            requires="plain-patches",
        ),
        "asg-cls": Objective(
            target="medground.objectives.asg:ClsQueries",
            help="asg with the published decoder of tags",
            stages=frozenset({PRETRAIN}),
            losses=ASG,
            reads_reports=True,
            requires="plain-patches",
        ),
        "gk-mvlp": Objective(
            target="medground.objectives.gkmvlp:GKMVLP",
            help="knowledge of findings grounded in regions, a reconstruction",
            stages=frozenset({PRETRAIN}),
            losses={name: Loss(weight=1.0) for name in ("itc", "itm", "lm", "ecls")},
            reads_reports=True,
            requires="plain-patches",
        ),
        "gk-mvlp-unmasked": Objective(
            target="medground.objectives.gkmvlp:Unmasked",
            help="gk-mvlp in which a finding attends to every region",
            stages=frozenset({PRETRAIN}),
            losses={name: Loss(weight=1.0) for name in ("itc", "itm", "lm", "ecls")},
            reads_reports=True,
            requires="plain-patches",
        ),
        "writer": Objective(
            target="medground.objectives.writer:ReportWriter",
            help="a decoder that writes the report from the patches, for a frozen encoder",
            stages=frozenset({PRETRAIN}),
            losses={"lm": Loss(weight=1.0)},
            reads_reports=True,
        ),
        "mdetr": Objective(
            target="medground.objectives.mdetr:MDETRLosses",
            help="MDETR's losses, for --architecture mdetr --norm post",
            stages=frozenset({PRETRAIN, FINETUNE}),
            losses={
                f"{layer}{name}": Loss(weight=weight)
                for layer in ("", "aux-")
                for name, weight in {"l1": 5.0, "giou": 2.0, "soft-token": 1.0, "align": 1.0}.items()
            },
            fuses=True,
            trains_boxes=True,
            requires="soft-tokens",
        ),
        "taco": Objective(
            target="medground.objectives.medrpg:TaCo",
            help="MedRPG's contrast of regions and phrases; its weight rises from 0",
            stages=frozenset({FINETUNE}),
            losses={"taco": Loss(weight=0.05)},
            requires="reg-token",
        ),
        "taco-rounded": Objective(
            target="medground.objectives.medrpg:Rounded",
            help="taco with boxes rounded to patches, as in MedRPG's code",
            stages=frozenset({FINETUNE}),
            losses={"taco": Loss(weight=0.05)},
            requires="reg-token",
        ),
    },
)
