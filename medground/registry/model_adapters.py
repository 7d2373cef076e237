"""The adapters of models of others; see docs/other-models.md for what each can."""

from medground.registry.entries import ModelAdapter, Table

DETECTING = "medground.grounding.adapters.detectors"
WRITING = "medground.grounding.adapters.generators"
MODEL_ADAPTERS = Table(
    "medground.model_adapters",
    ModelAdapter,
    {
        "grounding-dino": ModelAdapter(
            target=f"{DETECTING}:GroundingDino",
            help="Grounding DINO, MM Grounding DINO",
            model_types=("grounding-dino", "mm-grounding-dino"),
            none=False,
            scores=True,
        ),
        "owl": ModelAdapter(
            target=f"{DETECTING}:Owl",
            help="OWL-ViT, OWLv2",
            model_types=("owlvit", "owlv2"),
            none=False,
            scores=True,
        ),
        "florence-2": ModelAdapter(
            target=f"{WRITING}:florence_2", help="Florence-2", model_types=("florence2",)
        ),
        "paligemma": ModelAdapter(
            target=f"{WRITING}:paligemma", help="PaliGemma", model_types=("paligemma",)
        ),
        "qwen-vl": ModelAdapter(
            target=f"{WRITING}:qwen_vl", help="Qwen2-VL, Qwen3-VL", model_types=("qwen2_vl", "qwen3_vl")
        ),
        "qwen2.5-vl": ModelAdapter(
            target=f"{WRITING}:Qwen25VL", help="Qwen2.5-VL", model_types=("qwen2_5_vl",)
        ),
        "llava": ModelAdapter(
            target=f"{WRITING}:llava", help="LLaVA, LLaVA-NeXT", model_types=("llava", "llava_next")
        ),
        "llava-onevision": ModelAdapter(
            target=f"{WRITING}:llava_onevision",
            help="LLaVA-OneVision, RadVLM",
            model_types=("llava_onevision",),
        ),
        "maira-2": ModelAdapter(
            target=f"{WRITING}:Maira2", help="MAIRA-2", model_types=("maira2",), needs_code=True
        ),
        "similarity": ModelAdapter(
            target="medground.grounding.adapters.similarity:load",
            help="CLIP and vision-text dual encoders, by heat map",
            model_types=("clip", "vision-text-dual-encoder"),
            several=False,
            none=False,
            scores=True,
        ),
    },
)
