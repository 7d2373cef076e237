"""negspacy's lists of terms, which the cues of the parser extend.

Only negspacy's `en_clinical` terms are used, not its component, which is a baseline (negspacy_existence.py).
It has one boolean for each finding and no doubt. Its scope runs to the end of the sentence ("No pneumothorax;
small effusion" negates the effusion). "versus", "cannot exclude" and "evaluate for" negate. It has few terms
that follow a finding ("no longer seen", "resolved"). A finding that contains a termination word is never
negated. It also needs a spaCy Doc: tokenizing only runs at 55,000 reports per second, with matchers and spans
below 3,000. cues.toml lists the terms with another meaning here ([negspacy]).
"""

from importlib import util

from medground.errors import MedgroundError


def negspacy_terms() -> dict[str, list[str]]:
    """Return negspacy's `en_clinical` terms by kind: pseudo_negations, preceding_negations, ...

    The file is read without importing the package, which would load spaCy and torch: 2 to 4 seconds.
    """
    package = util.find_spec("negspacy")
    if package is None or not package.submodule_search_locations:
        raise MedgroundError("negspacy is not installed: pip install negspacy")
    path = package.submodule_search_locations[0] + "/termsets.py"
    spec = util.spec_from_file_location("medground_negspacy_termsets", path)
    assert spec is not None and spec.loader is not None  # the file is part of the package
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {key: list(terms) for key, terms in module.LANGUAGES["en_clinical"].items()}
