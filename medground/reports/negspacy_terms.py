"""negspacy's lists of terms, which the cues of the parser build on.

Of negspacy we take what it knows, its `en_clinical` terms, and not its component. That has one boolean for
each finding and no doubt; its scope runs to the end of the sentence ("No pneumothorax; small effusion"
negates the effusion); "versus", "cannot exclude" and "evaluate for" negate; what follows a finding ("no
longer seen", "resolved") is mostly unknown to it; and a finding with a termination word in it is never
negated. It needs a spaCy Doc too: bare tokenising runs at 55,000 reports a second, but matchers and spans
take the whole below 3,000. cues.toml says which terms are read otherwise here ([negspacy]).
"""

from importlib import util

from medground.errors import MedgroundError


def negspacy_terms() -> dict[str, list[str]]:
    """The installed negspacy's `en_clinical` terms by kind: pseudo_negations, preceding_negations, ...

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
