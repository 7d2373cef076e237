"""negspacy's lists of terms, which the cues of the parser extend.

Only negspacy's `en_clinical` terms are used, not its component, which is a baseline (negspacy_existence.py).
It has one boolean for each finding and no doubt. Its scope runs to the end of the sentence ("No pneumothorax;
small effusion" negates the effusion). "versus", "cannot exclude" and "evaluate for" negate. It has few terms
that follow a finding ("no longer seen", "resolved"). A finding that contains a termination word is never
negated. It also needs a spaCy Doc: tokenizing only runs at 55,000 reports per second, with matchers and spans
below 3,000. cues.toml lists the terms with another meaning here ([negspacy]).
"""

from medground.compat import run_file


def negspacy_terms() -> dict[str, list[str]]:
    """Return negspacy's `en_clinical` terms by kind: pseudo_negations, preceding_negations, ..."""
    lists = run_file("negspacy", "termsets.py")["LANGUAGES"]["en_clinical"]
    return {key: list(terms) for key, terms in lists.items()}
