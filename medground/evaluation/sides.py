"""The words that name a side, for all of evaluation: whole words, and a lone L or R where it is a capital."""

LEFT = r"(?i:left(?:ward)?|lt|lul|lll)|L(?!['’.\d])"
RIGHT = r"(?i:right(?:ward)?|rt|rul|rll)|R(?!['’.\d])"
ONLY_RIGHT = r"(?i:rml)"  # the left lung has no middle lobe
BOTH = r"(?i:bilateral(?:ly)?|both|bi-?(?:basilar|basal|apical|hilar))"
