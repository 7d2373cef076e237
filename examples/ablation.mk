# What each loss of ASG adds, and what the mask of GK-MVLP is worth, on the demo's cohort; included by
# ../Makefile after demo.mk. A second `make ablation` goes on where the first was stopped: a run whose line is in
# asg.jsonl or gk.jsonl is not done again. About 30 minutes of one core; fewer with STEPS or SEEDS.

STEPS ?= 150
SEEDS ?= 3
SIDE ?= 96
ABLATION := $(DEMO)/ablation
SIZES := --seeds $(SEEDS) --steps $(STEPS) --side $(SIDE)

ablation: $(ABLATION)/asg.md $(ABLATION)/gk.md
	cat $^

# The regions' true boxes: what is measured here are the losses, not the detector.
$(ABLATION)/anatomy-%.jsonl: $(COHORT)/phantom.json
	@mkdir -p $(@D)
	$(MG) convert imagenome $(COHORT)/chest-imagenome --metadata $(METADATA) --split $* -o $@

$(ABLATION)/held.jsonl: $(ABLATION)/anatomy-valid.jsonl $(ABLATION)/anatomy-test.jsonl
	cat $^ > $@

$(ABLATION)/anatomy.jsonl: $(ABLATION)/anatomy-train.jsonl $(ABLATION)/held.jsonl
	cat $^ > $@

$(ABLATION)/sentences.jsonl: $(COHORT)/phantom.json
	@mkdir -p $(@D)
	$(MG) parse-reports $(COHORT)/reports.csv -o $@

$(ABLATION)/pairs-%.jsonl: $(ABLATION)/sentences.jsonl $(ABLATION)/anatomy.jsonl
	$(MG) align $< --boxes $(word 2,$^) --existence present --existence absent --$* -o $@

$(ABLATION)/asg.md: $(ABLATION)/pairs-merge.jsonl $(ABLATION)/pairs-split.jsonl $(ABLATION)/held.jsonl
	$(BIN)/python tools/ablate_asg --merged $< --split $(word 2,$^) --test-images $(word 3,$^) \
	  --reports $(ABLATION)/sentences.jsonl --images $(FILMS) $(SIZES) -o $(@:.md=.jsonl) > $@

$(ABLATION)/gk.md: $(ABLATION)/pairs-merge.jsonl $(ABLATION)/anatomy.jsonl $(ABLATION)/held.jsonl
	$(BIN)/python tools/ablate_gk --pairs $< --anatomy $(word 2,$^) --test-images $(word 3,$^) \
	  --reports $(ABLATION)/sentences.jsonl --images $(FILMS) $(SIZES) -o $(@:.md=.jsonl) > $@

.PHONY: ablation
