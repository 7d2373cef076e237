"""Models of others, which transformers loads from a local folder, as models of `ground`.

`registry.MODEL_ADAPTERS` has an adapter for each kind of model, by the `model_type` of its config.json.

model       the model that `ground` uses: records in, records out
sources     the folder of a model: its config, its name, and what transformers makes of it
detectors   Grounding DINO and OWL-ViT: boxes with scores
generators  vision-language models: a prompt in, text with boxes out
similarity  image-text models: a heat map over the image, and the box around its peak
"""
