# Models side by side: six tiny models of other makers on a synthetic cohort; included by ../Makefile.
# They are untrained, so their scores mean nothing. With real weights (docs/other-models.md), set
# WORKBENCH_MODELS to the names of your folders in MODELS, and PHRASES and PHRASE_IMAGES to your data.

WORKBENCH ?= workbench
WORKBENCH_PATIENTS ?= 6
TINY := grounding-dino owlv2 florence-2 paligemma qwen2.5-vl clip
WORKBENCH_MODELS ?= $(TINY)
MODELS ?= $(WORKBENCH)/models
PHRASES ?= $(WORKBENCH)/phrases.jsonl
PHRASE_IMAGES ?= $(WORKBENCH)/cohort/mimic-cxr-jpg
FOUND := $(WORKBENCH_MODELS:%=$(WORKBENCH)/%.jsonl)

.PHONY: workbench
workbench: $(WORKBENCH)/table.md $(WORKBENCH_MODELS:%=$(WORKBENCH)/scores-%.jsonl) $(WORKBENCH)/page.html
	@cat $<

# 1. Images and phrases with true boxes.
$(WORKBENCH)/phrases.jsonl: | $(VENV)/installed
	$(MG) phantom $(WORKBENCH)/cohort --patients $(WORKBENCH_PATIENTS) --seed 5 --image-size 128
	$(MG) convert ms-cxr $(WORKBENCH)/cohort/ms-cxr/MS_CXR_Local_Alignment_v1.1.0.csv -o $@

# 2. The models.
$(TINY:%=$(WORKBENCH)/models/%): | $(VENV)/installed
	$(BIN)/python tools/make_tiny_models $(@D) $(@F)

# 3. Predictions, scores of each model, all models in one table, and a page of one model.
$(FOUND): $(WORKBENCH)/%.jsonl: $(PHRASES) | $(MODELS)/%
	$(MG) ground --model $(MODELS)/$* --images $(PHRASE_IMAGES) --phrases $< -o $@

$(WORKBENCH)/scores-%.jsonl: $(WORKBENCH)/%.jsonl
	$(MG) evaluate $< --truth $(PHRASES) --protocol single-box --protocol set -o $@

$(WORKBENCH)/table.md: $(FOUND)
	$(MG) compare $^ --truth $(PHRASES) --protocol single-box --protocol set --output-format markdown -o $@

$(WORKBENCH)/page.html: $(WORKBENCH)/$(firstword $(WORKBENCH_MODELS)).jsonl
	$(MG) render $< --images $(PHRASE_IMAGES) --phrases $(PHRASES) --html $@
