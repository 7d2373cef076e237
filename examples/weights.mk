# make weights   the example models that come with medground, made again: a cohort of 1,600 phantoms, the
#                detector, anatomical pre-training with strong views, fine-tuning. About two hours on two cores.
# They are trained on synthetic images alone, and are no medical device.

WEIGHTS ?= weights
SHIPPED := medground/weights
PHANTOMS := $(WEIGHTS)/cohort
PHANTOM_FILMS := $(PHANTOMS)/mimic-cxr-jpg
PHANTOM_METADATA := $(PHANTOM_FILMS)/mimic-cxr-2.0.0-metadata.csv

.PHONY: weights
weights: # Lateral films have no regions; there are few of them, so each is shown four times as often.
$(WEIGHTS)/laterals.jsonl: $(PHANTOMS)/phantom.json
	$(MG) convert mimic-jpg $(PHANTOM_METADATA) --splits $(PHANTOM_FILMS)/mimic-cxr-2.0.0-split.csv --split train | \
	  grep '"LATERAL"' > $@

$(WEIGHTS)/anatomy-and-laterals.jsonl: $(WEIGHTS)/anatomy-train.jsonl $(WEIGHTS)/laterals.jsonl
	cat $^ $(WEIGHTS)/laterals.jsonl $(WEIGHTS)/laterals.jsonl $(WEIGHTS)/laterals.jsonl > $@

$(WEIGHTS)/first-detector/done: $(WEIGHTS)/anatomy-train.jsonl $(WEIGHTS)/anatomy-valid.jsonl
	$(MG) train-detector $< --val $(WEIGHTS)/anatomy-valid.jsonl --images $(PHANTOM_FILMS) --size 192 \
	  --steps 10000 --anew -o $(@D)
	touch $@

$(WEIGHTS)/detector/done: $(WEIGHTS)/anatomy-and-laterals.jsonl $(WEIGHTS)/first-detector/done
	$(MG) train-detector $< --val $(WEIGHTS)/anatomy-valid.jsonl --images $(PHANTOM_FILMS) --size 192 \
	  --steps 3000 --rate 7e-4 --start $(WEIGHTS)/first-detector/model.safetensors --anew -o $(@D)
	touch $@

$(WEIGHTS)/pairs.jsonl: $(PHANTOMS)/phantom.json $(WEIGHTS)/anatomy-train.jsonl
	$(MG) parse-reports $(PHANTOMS)/reports.csv | \
	  $(MG) align --boxes $(WEIGHTS)/anatomy-train.jsonl --existence present --existence absent -o $@

$(WEIGHTS)/agp/done: $(WEIGHTS)/pairs.jsonl $(WEIGHTS)/anatomy-train.jsonl
	$(MG) pretrain $< --anatomy $(WEIGHTS)/anatomy-train.jsonl --images $(PHANTOM_FILMS) --augment strong \
	  --steps 2000 --terms 4 --sentences 3 --anew -o $(@D)
	touch $@

$(WEIGHTS)/grounder/done: $(WEIGHTS)/phrases.jsonl $(WEIGHTS)/agp/done
	$(MG) finetune $< --from $(WEIGHTS)/agp --images $(PHANTOM_FILMS) --augment strong --steps 600 \
	  --rehearse $(WEIGHTS)/pairs.jsonl --anatomy $(WEIGHTS)/anatomy-train.jsonl --anew -o $(@D)
	$(MG) calibrate $(WEIGHTS)/phrases-val.jsonl --model $(@D) --images $(PHANTOM_FILMS)
	touch $@
