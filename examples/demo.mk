# The whole pipeline on a synthetic cohort; included by ../Makefile. Each stage is a command that can be copied.
# With your own data, replace step 1 by your copies of MIMIC-CXR-JPG, Chest ImaGenome and MS-CXR.
# A second `make demo` repeats only what changed and continues a training that was stopped. A training folder
# gets a file `done` at the end, because its model is there from the first checkpoint on.
# Two stages run at a time. Those that train together with another one use one thread each.

DEMO ?= demo
PATIENTS ?= 700
FEW ?= 48
PIXELS := --image-size 96
MG := $(BIN)/medground
FIRST := $(DEMO)/first
COHORT := $(DEMO)/cohort
IMAGES := $(COHORT)/mimic-cxr-jpg
METADATA := $(IMAGES)/mimic-cxr-2.0.0-metadata.csv
RUNS := no-pretraining zero-shot finetuned
ONE_THREAD := OMP_NUM_THREADS=1
# Each image is frontal. Without the check of this, detection takes a third less processor time.
FRONTAL := --any-view

demo: $(FIRST)/groundings.jsonl
	@$(BIN)/python tools/show_predictions $< --truth $(FIRST)/phrases.jsonl --pictures $(FIRST)/pictures
	@echo 'Now the pipeline: a cohort, a detector of regions, pre-training, fine-tuning and scores.'
	@$(MAKE) --no-print-directory -j 2 $(DEMO)/index.html
	@echo "scores and pictures: $(DEMO)/index.html"

# 0. A first result: three patients, and what the example model predicts for their phrases.
$(FIRST)/phrases.jsonl: | $(VENV)/installed
	$(MG) phantom $(FIRST)/cohort --patients 3 --seed 9 --image-size 256
	$(MG) convert ms-cxr $(FIRST)/cohort/ms-cxr/MS_CXR_Local_Alignment_v1.1.0.csv -o $@

$(FIRST)/groundings.jsonl: $(FIRST)/phrases.jsonl
	$(MG) ground --phrases $< --images $(FIRST)/cohort/mimic-cxr-jpg --overlay $(FIRST)/pictures -o $@

# 1. Data: a phantom cohort in the published layouts, and its tables as records.
$(COHORT)/phantom.json: | $(VENV)/installed
	$(MG) phantom $(COHORT) --patients $(PATIENTS) --seed 1 --image-size 256 --workers 2

$(DEMO)/images-%.jsonl: $(COHORT)/phantom.json
	$(MG) convert mimic-jpg $(METADATA) --split-table $(IMAGES)/mimic-cxr-2.0.0-split.csv \
	  --split $* --frontal-only -o $@

$(DEMO)/anatomy-%.jsonl: $(COHORT)/phantom.json
	$(MG) convert imagenome $(COHORT)/chest-imagenome --metadata $(METADATA) --split $* -o $@

$(DEMO)/phrases-%.jsonl: $(COHORT)/phantom.json
	$(MG) convert ms-cxr $(COHORT)/ms-cxr/MS_CXR_Local_Alignment_v1.1.0.csv --split $* -o $@

# 2. Anatomy: a detector of named regions, and its boxes on all images.
$(DEMO)/detector/done: $(DEMO)/anatomy-train.jsonl $(DEMO)/anatomy-valid.jsonl
	$(ONE_THREAD) $(MG) train-detector $< --val $(DEMO)/anatomy-valid.jsonl --images $(IMAGES) \
	  --image-size 128 --steps 360 --overwrite -o $(@D)
	touch $@

$(DEMO)/boxes-%.jsonl: $(DEMO)/images-%.jsonl $(DEMO)/detector/done
	$(ONE_THREAD) $(MG) detect-anatomy $< $(FRONTAL) --images $(IMAGES) --model $(DEMO)/detector/model.safetensors \
	  -o $@

# 3. Reports: which sentence mentions which region.
$(DEMO)/pairs.jsonl: $(COHORT)/phantom.json $(DEMO)/boxes-train.jsonl
	$(MG) parse-reports $(COHORT)/reports.csv | \
	  $(MG) align --anatomy $(DEMO)/boxes-train.jsonl --existence present --existence absent -o $@

# 4. Anatomical pre-training, and fine-tuning on a few phrases with annotated boxes, with and without it.
$(DEMO)/runs/zero-shot/done: $(DEMO)/pairs.jsonl $(DEMO)/anatomy-train.jsonl
	$(MG) pretrain $< --anatomy $(DEMO)/anatomy-train.jsonl --images $(IMAGES) \
	  $(PIXELS) --steps 360 --max-terms 2 --max-sentences 3 --overwrite -o $(@D)
	touch $@

$(DEMO)/phrases.jsonl: $(DEMO)/phrases-train.jsonl $(DEMO)/phrases-val.jsonl
	cat $^ > $@

$(DEMO)/runs/finetuned/done: $(DEMO)/phrases.jsonl $(DEMO)/pairs.jsonl $(DEMO)/runs/zero-shot/done
	$(MG) finetune $< --num-phrases $(FEW) --init-from $(DEMO)/runs/zero-shot --images $(IMAGES) --steps 120 \
	  --rehearse $(DEMO)/pairs.jsonl --save-every 40 --overwrite -o $(@D)
	touch $@

# Runs together with the detector's training. `cat`: two progress bars would overwrite each other.
$(DEMO)/runs/no-pretraining/done: $(DEMO)/phrases.jsonl
	$(ONE_THREAD) $(MG) finetune $< --num-phrases $(FEW) --images $(IMAGES) $(PIXELS) --steps 120 --lr 5e-4 \
	  --save-every 40 --overwrite -o $(@D) 2>&1 | cat
	touch $@

# 5. Grounding the test patients' phrases, and scores.
$(DEMO)/groundings-%.jsonl: $(DEMO)/phrases-test.jsonl $(DEMO)/runs/%/done
	$(ONE_THREAD) $(MG) ground --model $(DEMO)/runs/$* $(FRONTAL) --images $(IMAGES) --phrases $< -o $@

$(DEMO)/scores-%.jsonl: $(DEMO)/groundings-%.jsonl $(DEMO)/phrases-test.jsonl $(DEMO)/phrases-train.jsonl
	$(MG) evaluate $< --truth $(DEMO)/phrases-test.jsonl --train $(DEMO)/phrases-train.jsonl -o $@

$(DEMO)/overlays: $(DEMO)/phrases-test.jsonl $(DEMO)/runs/finetuned/done
	head -24 $< | $(ONE_THREAD) $(MG) ground --model $(DEMO)/runs/finetuned $(FRONTAL) --images $(IMAGES) \
	  --overlay $@ -o /dev/null
	@touch $@

# The detector comes first: pre-training waits for it, and is the longest stage.
$(DEMO)/index.html: $(DEMO)/pairs.jsonl $(foreach run,$(RUNS),$(DEMO)/scores-$(run).jsonl) $(DEMO)/overlays
	$(BIN)/python tools/demo_page $(foreach run,$(RUNS),--run \
	  $(run)=$(DEMO)/scores-$(run).jsonl:$(DEMO)/groundings-$(run).jsonl) \
	  --truth $(DEMO)/phrases-test.jsonl --images $(IMAGES) -o $@

.SECONDARY:
