"""Short trainings on the images of `toy` by the training commands, and helpers to check their output."""

import json
from pathlib import Path

import toy
from click.testing import CliRunner

from medground import checkpoints, site_key
from medground.cli.main import cli


def run(*args: object, **more: object):
    result = CliRunner().invoke(cli, [str(each) for each in args], **more)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def finetune(cohort: toy.Toy, folder: Path, *flags: object, phrases: object = None, steps: object = 2):
    return run(
        "finetune", phrases or cohort.phrases, "--images", cohort.folder, "-o", folder,
        "--steps", steps, "--batch-size", 2, "--save-every", 2, "--device", "cpu", *flags,
    )  # fmt: skip


def pretrain(cohort: toy.Toy, folder: Path, *flags: object, pairs: object = None):
    done = run(
        "pretrain", pairs or cohort.pairs, "--images", cohort.folder, "-o", folder, "--steps", 1,
        "--batch-size", 2, "--device", "cpu", *flags,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return folder


def record(folder: Path) -> dict:
    return checkpoints.read_config(folder / "model.safetensors")["record"]


def lines(path: object) -> list[dict]:
    return [json.loads(line) for line in Path(str(path)).read_text().splitlines()]


def write(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in records))
    return path


def digests(names) -> list[str]:
    """Return the digests in a training record of these toy patients, pN, and of their images, imageN."""
    names = list(names)
    return sorted(
        map(site_key.find_or_create().digest, [*names, *(name.replace("p", "image") for name in names)])
    )
