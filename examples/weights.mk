# make weights  train the example models of medground from scratch: a cohort of 1,600 phantoms, the detector,
#               anatomical pre-training with strong views, fine-tuning. It takes about two hours on two cores.
# The shipped grounding model is older than the present choice of negative phrases (data/negatives.py), so the
# result differs slightly. The models are trained on synthetic images only and are not medical devices.

WEIGHTS ?= weights
SHIPPED := medground/weights
PHANTOMS := $(WEIGHTS)/cohort
OTHERS := $(WEIGHTS)/others
PHANTOM_FILMS := $(PHANTOMS)/mimic-cxr-jpg
PHANTOM_METADATA := $(PHANTOM_FILMS)/mimic-cxr-2.0.0-metadata.csv

.PHONY: weights
weights: $(WEIGHTS)/detector/done $(WEIGHTS)/grounder/done $(WEIGHTS)/phrases-calibration.jsonl
	$(BIN)/python tools/ship_weights $(WEIGHTS)/detector $(SHIPPED)/detector
	$(BIN)/python tools/ship_weights $(WEIGHTS)/grounder $(SHIPPED)/grounder
	$(MG) calibrate $(WEIGHTS)/phrases-calibration.jsonl --model $(SHIPPED)/grounder --data-name "800 synthetic patients" \
	  --images $(OTHERS)/mimic-cxr-jpg

$(PHANTOMS)/phantom.json: | $(VENV)/installed
	$(MG) phantom $(PHANTOMS) --patients 1600 --seed 21 --image-size 256 --workers 2

$(WEIGHTS)/anatomy-%.jsonl: $(PHANTOMS)/phantom.json
	$(MG) convert imagenome $(PHANTOMS)/chest-imagenome --metadata $(PHANTOM_METADATA) --split $* -o $@

$(WEIGHTS)/phrases-%.jsonl: $(PHANTOMS)/phantom.json
	$(MG) convert ms-cxr $(PHANTOMS)/ms-cxr/MS_CXR_Local_Alignment_v1.1.0.csv --split $* -o $@

# The model is calibrated on patients that neither training nor the choice of its best checkpoint used.
$(OTHERS)/phantom.json: | $(VENV)/installed
	$(MG) phantom $(OTHERS) --patients 800 --seed 22 --image-size 256 --workers 2

$(WEIGHTS)/phrases-calibration.jsonl: $(OTHERS)/phantom.json
	$(MG) convert ms-cxr $(OTHERS)/ms-cxr/MS_CXR_Local_Alignment_v1.1.0.csv -o $@

$(WEIGHTS)/phrases.jsonl: $(WEIGHTS)/phrases-train.jsonl $(WEIGHTS)/phrases-val.jsonl
	cat $^ > $@

$(WEIGHTS)/detector/done: $(WEIGHTS)/anatomy-train.jsonl $(WEIGHTS)/anatomy-valid.jsonl
	$(MG) train-detector $< --val $(WEIGHTS)/anatomy-valid.jsonl --images $(PHANTOM_FILMS) --image-size 192 \
	  --steps 10000 --overwrite -o $(@D)
	touch $@

$(WEIGHTS)/pairs.jsonl: $(PHANTOMS)/phantom.json $(WEIGHTS)/anatomy-train.jsonl
	$(MG) parse-reports $(PHANTOMS)/reports.csv | \
	  $(MG) align --anatomy $(WEIGHTS)/anatomy-train.jsonl --existence present --existence absent -o $@

$(WEIGHTS)/agp/done: $(WEIGHTS)/pairs.jsonl $(WEIGHTS)/anatomy-train.jsonl
	$(MG) pretrain $< --anatomy $(WEIGHTS)/anatomy-train.jsonl --images $(PHANTOM_FILMS) --augment strong \
	  --hflip-prob 0.2 --paraphrases 8 --steps 2000 --max-terms 4 --max-sentences 3 --overwrite -o $(@D)
	touch $@

$(WEIGHTS)/grounder/done: $(WEIGHTS)/phrases.jsonl $(WEIGHTS)/agp/done
	$(MG) finetune $< --init-from $(WEIGHTS)/agp --images $(PHANTOM_FILMS) --augment strong \
	  --multi-box sides --steps 1400 --negative-prob 1 \
	  --paraphrases 8 --rehearse $(WEIGHTS)/pairs.jsonl --anatomy $(WEIGHTS)/anatomy-train.jsonl --overwrite -o $(@D)
	touch $@
