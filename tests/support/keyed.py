"""Training records with the site key of the tests."""

from medground import site_key

KEY = site_key.find_or_create()


def recorded(*names: str) -> dict:
    """Return the training record of a model that was trained on these subjects or images."""
    return {"subjects": sorted(map(KEY.digest, names)), "key": KEY.name}


def unkeyed(*names: str) -> dict:
    """Return the same record as versions before the site key wrote it."""
    return {"subjects": sorted(map(site_key.unkeyed_digest, names))}
