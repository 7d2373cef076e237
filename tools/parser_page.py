"""The page docs/parser.md: vocabulary, rules and lexicon format of the report parser, and its use in spaCy.

A test parses each example sentence and loads the example lexicon.
"""

from collections.abc import Iterable

from medground.anatomy import regions
from medground.reports import lexicon

# Rule of a triplet: (existence, meaning, example). Rules without an example are those of other sources.
RULES = {
    "stated": ("present", "The finding is named and no cue applies to it.", "Small left effusion."),
    "normality": ("absent", "A structure is normal, which rules the finding out.", "The lungs are clear."),
    "negation-before": ("absent", "A negation before the finding.", "No pneumothorax."),
    "negation-after": ("absent", "A negation after the finding.", "Pneumothorax is not seen."),
    "negation-either": ("absent", "A negation that applies forward or back.", "This is not pneumonia."),
    "doubt-before": ("uncertain", "A doubt before the finding.", "Concern for pneumonia."),
    "doubt-after": ("uncertain", "A doubt after the finding.", "Pneumonia cannot be excluded."),
    "alternative": ("uncertain", "The first of several alternatives.", "Atelectasis versus pneumonia."),
    "differential": ("uncertain", "One of the list of a differential.", "Differential includes pneumonia."),
    "possible": ("uncertain", "A question mark, or a word such as possible.", "Possible pneumonia."),
    "likely": ("uncertain", "Likely or probable; `--likely-as present` changes it.", "Likely atelectasis."),
    "removal": ("absent", "A word for the removal of a device.", "The patient was extubated."),
    "advice": ("uncertain", "Advice mentions the finding.", "Recommend CT to evaluate for mass."),
    "negspacy": ("present or absent", "`--existence-by negspacy` decided.", ""),
    "radgraph": ("any", "`--input-format radgraph`: the label of RadGraph.", ""),
    "imagenome": ("any", "`--input-format chest-imagenome`: the label of the scene graph.", ""),
}  # fmt: skip

FINDING_KEYS = {
    "name": "Name of the finding. A known name adds words to it.",
    "words": "Phrases in lower case without hyphens: `(a|b)` is either word, `(a|)` an optional one.",
    "region": "Fixed regions of the finding, independent of the sentence.",
    "default": "Regions of the finding if the sentence names none.",
    "place": "Meaning of a bare \"right\" or \"left\": \"right lung\" if it is `lung`. Empty: no region.",
    "only": "The finding has no finer place than `place`.",
    "within": "`lungs`: places outside the lungs are ignored. `chest`: ignored if the sentence names a limb.",
    "at": "Finer name of the finding by its place.",
    "gone": "Phrases for the removal of a device: `extubated`.",
    "only_at": "The finding counts only at the places in `at`.",
    "diffuse": "The finding shares no side with other findings of a list.",
    "group": "Category of the finding in Chest ImaGenome.",
    "chexpert": "Label of CheXpert.",
    "ms_cxr": "Label of MS-CXR.",
    "asg": "Tag of ASG.",
}  # fmt: skip

CUES = {
    "negation_before": "negations that reach forward: \"no\"",
    "negation_after": "negations that reach back: \"is not seen\"",
    "negation_either": "negations in both directions: \"is not\"",
    "doubt_before": "doubts that take precedence over their own negation: \"cannot exclude\"",
    "doubt_after": "the same, after the finding: \"cannot be excluded\"",
    "uncertain_before": "doubts that reach forward: \"concern for\"",
    "uncertain_after": "doubts that reach back: \"is suspected\"",
    "likely": "\"likely\", \"probable\"",
    "possible": "\"possible\", \"?\"",
    "alternative": "\"versus\"",
    "pseudo": "phrases that only resemble a cue: \"no change\"",
    "breaks": "words that end the reach of a cue: \"but\"",
    "causes": "words that end the reach of a negation: \"due to\"",
    "earlier_before": "an earlier state, which gives no triplet: \"history of\"",
    "over_before": "a finding that is over, which gives no triplet: \"sequela of\"",
    "differential": "the start of a list of alternatives: \"differential diagnosis\"",
    "known_before": "a finding known from before, still present: \"previously seen\"",
    "advice": "recommendations: \"recommend\"",
}  # fmt: skip

LEXICON = """# own.toml
[[finding]]
name = "foreign body"            # a new finding
words = ["foreign (body|object)", "swallowed (coin|battery)"]
default = ["mediastinum"]

[[finding]]
name = "pneumothorax"            # more words for a known one
words = ["ptx of the (left|right) side"]

[cues]
negation_before = ["no trace of"]
"""

SPACY = """import spacy

nlp = spacy.blank("en")  # or any English pipeline
nlp.add_pipe("medground")
doc = nlp("No pneumothorax. Small left pleural effusion.")
for entity in doc.ents:
    print(entity.text, entity.label_, entity._.existence, entity._.negex, entity._.regions)
"""

START = f"""# Report parser

{{note}}
`medground parse-reports` and `medground.parse` turn reports into sentences with triplets `<region, finding,
existence>`. This page lists their vocabulary. `medground parse-reports --explain TEXT` shows how a sentence
is parsed.

## Input

- Text is UTF-8 or UTF-16. Lines that are not UTF-8 are read as Windows-1252, with a warning.
- A report that is not English gives no sentence. One warning counts such reports. `--any-language` parses
  them. The decision uses common words, and a tie means English. No report of 1,964 in Open-i is dropped
  (`pytest tests/reports/test_languages.py`).
- Findings and impression are parsed. `--all-sections` adds history, technique and comparison.

## spaCy

The parser is a component of spaCy pipelines. The package registers it, so there is nothing to import.

```python
{SPACY}```

| attribute | content |
|---|---|
| `doc.ents` | Findings, labeled with their names. If two overlap, the longer one remains. |
| `ent._.existence` | `present`, `absent` or `uncertain`. |
| `ent._.negex` | True if the finding is absent: the attribute of negspacy. |
| `ent._.regions`, `ent._.severity`, `ent._.change` | As in the triplets. |
| `ent._.triplets` | The triplets as objects of [records](records.md#triplet). |
| `doc.sents` | Sentences of the parser, unless a dependency parser has set them. |
| `doc.spans["findings"]` | All findings, also overlapping ones. |
| `doc.spans["existence"]` | The same spans, labeled with their existence. |
| `doc.spans["regions"]`, `doc.spans["cues"]` | Words of the regions, and cues labeled with their rule. |
| `doc.spans["sentences"]`, `doc.spans["sections"]` | Parsed sentences with the section as label, sections. |

Settings are those of the command: `nlp.add_pipe("medground", config={{"likely_as": "present"}})`. The
others are `lexicon`, `all_sections` and `any_language`. displaCy has colors for findings, by organ, and for
existences: `displacy.render(doc, style="span", options={{"spans_key": "existence"}})`.

`medground parse-reports --existence-by negspacy` decides existence by negspacy's component, over the same
findings, regions and sentences. It is a baseline. On the 1,924 coded reports of `openi_dev.tgz`, finding F1
is .911 with it and .957 with the rules (`medground parse-reports` with either option, and `openi.py
score`).
"""

CHEXPERT = """## CheXpert labels

`--output-format chexpert` writes one row per report. The labels follow the phrases of the published labeler:

- A label is 1 if a finding is present, otherwise -1 if one is uncertain, otherwise 0 if one is absent.
- `No Finding` is 1 if nothing but devices, implants and remarks on the image is present or uncertain.
- "Heart failure" is also an uncertain Cardiomegaly. Pleural scars are Pleural Other. Increased density and
  thickened bronchial walls are Lung Opacity.
- A report without a parsed sentence has only blanks.

CheXpert's own annotations of reports are not public. As a proxy, nine labels are compared with the MeSH
codes of the 1,924 coded reports of `openi_dev.tgz`: all except Lung Opacity, Enlarged Cardiomediastinum,
Pleural Other, Support Devices and No Finding, which no MeSH codes match. The micro-F1 of positives is .939
(`pytest tests/reports/test_chexpert.py`). It was .845 with the labels of version 0.3.0.
"""

LEXICON_TEXT = """## Lexicon of your own

`--lexicon FILE` adds the findings and cues of a TOML file. The longest phrase wins, and yours win over the
built-in ones.

```toml
{example}```

A table `[[finding]]` has these keys. Only `name` is required.

{keys}
Words in `[cues]` are patterns like `words`. Spelling in British English and plurals of findings are added.

{cues}"""


def page(note: str) -> str:
    """Return docs/parser.md."""
    ours = ("Rules", _rules(), "The `rule` of a triplet names the reason of its existence.")
    findings = ("Findings", _findings(), "Names are those of Chest ImaGenome, if it has one.")
    places = (
        "Regions",
        _regions(),
        'Names are those of Chest ImaGenome. "Right" is the right of the patient.',
    )
    sections = [_section(*each) for each in (ours, findings, places)]
    return "\n".join([START.replace("{note}", note), *sections, CHEXPERT, _lexicon()])


def _section(title: str, table: str, sentence: str) -> str:
    return f"## {title}\n\n{sentence}\n\n{table}"


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(each.replace('|', chr(92) + '|') for each in row)} |\n" for row in lines)


def _rules() -> str:
    rows = [[f"`{name}`", *each[:2], each[2] or "-"] for name, each in RULES.items()]
    return _table(["rule", "existence", "meaning", "example"], rows)


def _findings() -> str:
    kept = [each for each in lexicon.load().findings.values() if each.group != "un-mention"]
    rows = [[f"`{each.name}`", each.chexpert or "", each.ms_cxr or "", each.asg or ""] for each in kept]
    return _table(["finding", "CheXpert", "MS-CXR", "ASG"], rows)


def _regions() -> str:
    rows = [
        [f"`{name}`", "yes" if name in regions.NAMES else "", ", ".join(words[:3])]
        for name, words in regions.SYNONYMS.items()
    ]
    return _table(["region", "box on an image", "some synonyms"], rows)


def _lexicon() -> str:
    keys = _table(["key", "meaning"], [[f"`{name}`", meaning] for name, meaning in FINDING_KEYS.items()])
    cues = _table(["list in `[cues]`", "words"], [[f"`{name}`", words] for name, words in CUES.items()])
    return LEXICON_TEXT.format(example=LEXICON, keys=keys, cues=cues)
