# Ablations of AGP's synonyms and sentences, of each loss of ASG, and of the mask of GK-MVLP, on the demo's cohort;
# included by ../Makefile after demo.mk. A second `make ablation` resumes the first: a run with a line in
# agp.jsonl, asg.jsonl or gk.jsonl is not repeated. docs/ablations.md has the cost of each.

AGP_STEPS ?= 300
ASG_STEPS ?= 150
GK_STEPS ?= 400
SEEDS ?= 3
SIDE ?= 96
ABLATION := $(DEMO)/ablation
SIZES := --seeds $(SEEDS) --side $(SIDE)

ablation: $(ABLATION)/agp.md $(ABLATION)/asg.md $(ABLATION)/gk.md
	cat $^

ablation-%: $(ABLATION)/%.md
	cat $<

# The regions' annotated boxes, because the losses are compared, not the detector.
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
	$(MG) align $< --anatomy $(word 2,$^) --existence present --existence absent --multi-region $* -o $@

$(ABLATION)/agp-pairs.jsonl: $(ABLATION)/sentences.jsonl $(ABLATION)/anatomy-train.jsonl
	$(MG) align $< --anatomy $(word 2,$^) --existence present --existence absent -o $@

# Of parts of AGP, and of settings that are not part of `make ablation`.
$(addprefix $(ABLATION)/,agp.md norm-transvg.md norm-mdetr.md taco.md): $(ABLATION)/agp-pairs.jsonl \
  $(ABLATION)/anatomy-train.jsonl $(DEMO)/phrases.jsonl $(DEMO)/phrases-test.jsonl $(ABLATION)/anatomy-test.jsonl
	$(BIN)/python tools/ablate_agp --study $(basename $(@F)) --pairs $< --anatomy $(word 2,$^) \
	  --phrases $(word 3,$^) --test $(word 4,$^) --test-anatomy $(word 5,$^) --images $(IMAGES) --few $(FEW) \
	  --runs $(ABLATION)/agp $(SIZES) --steps $(AGP_STEPS) -o $(@:.md=.jsonl) > $@

$(ABLATION)/asg.md: $(ABLATION)/pairs-merge.jsonl $(ABLATION)/pairs-split.jsonl $(ABLATION)/held.jsonl
	$(BIN)/python tools/ablate_asg --merged $< --split $(word 2,$^) --test-images $(word 3,$^) \
	  --reports $(ABLATION)/sentences.jsonl --images $(IMAGES) $(SIZES) --steps $(ASG_STEPS) \
	  -o $(@:.md=.jsonl) > $@

$(ABLATION)/gk.md: $(ABLATION)/pairs-merge.jsonl $(ABLATION)/anatomy.jsonl $(ABLATION)/held.jsonl
	$(BIN)/python tools/ablate_gk --pairs $< --anatomy $(word 2,$^) --test-images $(word 3,$^) \
	  --reports $(ABLATION)/sentences.jsonl --images $(IMAGES) $(SIZES) --steps $(GK_STEPS) \
	  --batch 8 -o $(@:.md=.jsonl) > $@

.PHONY: ablation
