"""Targets of tools/fuzz: a reader of files from strangers each, with examples that mutations start from.

A target gets bytes. It may raise MedgroundError and nothing else, and it must end within seconds.
"""

import io
import json
import logging
import struct
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

from PIL import Image

Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {}
EXAMPLES: dict[str, list[bytes]] = {}


def target(*examples: bytes | str) -> Callable[[Target], Target]:
    """Register a target with examples that mutations start from."""

    def register(function: Target) -> Target:
        name = function.__name__
        TARGETS[name] = function
        EXAMPLES[name] = [each.encode() if isinstance(each, str) else each for each in examples]
        return function

    return register


class _Named(io.BytesIO):
    name = "input"


def _stream(data: bytes) -> io.BufferedReader:
    return io.BufferedReader(_Named(data))  # type: ignore[arg-type]


def _bad_lines():  # type: ignore[no-untyped-def]
    """Return lines that take every invalid line."""
    from medground import jsonl

    return jsonl.BadLines(io.BytesIO())


def _take(line: bytes, bad: Exception) -> None:
    str(bad)


def _on_file(data: bytes, name: str, read: Callable[[Path], object]) -> None:
    """Call `read` with a file of these bytes."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        read(path)


PHRASE = '{"image_id":"i","phrase_id":"p","path":"i.png","width":9,"height":9,"text":"x","boxes":[[1,2,3,4]]}'
ANATOMY = '{"image_id":"i","path":"i","width":9,"height":9,"regions":[{"name":"spine","box":[1,2,3,4]}]}'


@target(
    PHRASE, ANATOMY, '{"study_id":"s","text":"a"}', '{"image_id":"i","path":"p","view":"AP"}\n{"x":[[1e9]]}'
)
def records(data: bytes) -> None:
    """JSON lines as every kind of record, written again."""
    from medground import boxes, jsonl, record_files

    for kind in record_files.KINDS.values():
        try:
            for record in jsonl.read(_stream(data), kind, _bad_lines()):
                jsonl.dumps(record)
                if kind.__name__ in ("Phrase", "Pair", "Anatomy"):
                    getattr(boxes, f"check_{kind.__name__.lower()}")(record)
        except jsonl.MedgroundError:
            continue


@target('[1, [2.5], {"a": null}]', '"\\ud83d\\ude00"', "[NaN, 1e400, -0]")
def whole_json(data: bytes) -> None:
    """JSON of whole files; what is read can be written."""
    import orjson

    from medground import strict_json
    from medground.errors import BadRecord

    with suppress(BadRecord):
        orjson.dumps(strict_json.parse(data))
    json.dumps(strict_json.parse_loose(data))


@target(
    "study_id,text\ns1,Small effusion\n", 'id;findings\n1;"a\nb"\n', "\ufefftext\tx\na\tb\n".encode("utf-16")
)
def report_table(data: bytes) -> None:
    """Tables of reports."""
    from medground import encodings
    from medground.reports import input as report_input

    stream = encodings.as_utf8(_stream(data), "input")
    report_input.kind_of(stream.peek(100), "")
    for _ in report_input.read_table(stream, "input", None, _take):
        pass


@target(
    "FINDINGS: Small left effusion. No pneumothorax.\nIMPRESSION: 1. Stable.",
    "CHEST 2 VIEWS: ok",
    "\xa0\x85.",
)
def report(data: bytes) -> None:
    """One report: decoding, sections, sentences, findings; spans are inside the text."""
    from medground.reports import input as report_input

    for each in report_input.read_one(_stream(data), "input", _take):
        text = each.text or ""
        for sentence in _parser().parse_report(each):
            assert sentence.text == text[sentence.start : sentence.end]
            for triplet in sentence.triplets:
                assert 0 <= triplet.finding_span[0] < triplet.finding_span[1] <= len(text)


@cache
def _parser():  # type: ignore[no-untyped-def]
    from medground.reports.parser import Parser

    return Parser()


ENTITY = '{"tokens":"effusion","label":"OBS-DP","start_ix":1,"end_ix":1,"relations":[["located_at","2"]]}'


@target('{"p10/p10000032/s50414267.txt":{"text":"left effusion .","entities":{"1":' + ENTITY + "}}}")
def radgraph(data: bytes) -> None:
    """RadGraph's file of reports."""
    from medground.datasets import radgraph as reader

    for sentence in reader.read(_stream(data), lambda words: None, lambda words, finding: ["spine"], _take):
        assert sentence.text


GRAPH = (
    '{"image_id":"i","objects":[{"bbox_name":"spine","original_x1":1,"original_y1":1,"original_x2":5,'
    '"original_y2":5}],"attributes":[{"bbox_name":"spine","attributes":[["anatomicalfinding|yes|x"]],'
    '"phrases":["x"],"phrase_IDs":["5|1"],'
    '"severity_cues":[[]],"temporal_cues":[[]],"texture_cues":[[]],"attributes_ids":[[]],"sections":["finalreport"]}],'
    '"patient_id":10000032,"study_id":50414267}'
)


@target(GRAPH)
def imagenome(data: bytes) -> None:
    """Chest ImaGenome's scene graphs: boxes, and sentences."""
    from medground.datasets import chest_imagenome, imagenome_sentences
    from medground.errors import MedgroundError
    from medground.records import Anatomy

    images = {"i": Anatomy(image_id="i", path="i.jpg", width=9, height=9, regions=[])}

    def read(path: Path) -> None:
        for reader in (
            lambda: chest_imagenome.read_anatomy(path.parent, images, _take),
            lambda: imagenome_sentences.read(path.parent, _take),
        ):
            try:
                list(reader())
            except MedgroundError:
                continue

    _on_file(data, "i_SceneGraph.json", read)


@target(
    "dicom_id,category_name,label_text,x,y,w,h,image_width,image_height\ni,Edema,x,1,2,3,4,9,9\n",
    '{"images":[{"id":1,"file_name":"i.jpg","width":9,"height":9}],"categories":[{"id":1,"name":"Edema"}],'
    '"annotations":[{"image_id":1,"category_id":1,"bbox":[1,2,3,4],"label_text":"x"}]}',
)
def ms_cxr(data: bytes) -> None:
    """MS-CXR as a table and as COCO."""
    from medground import jsonl
    from medground.datasets import ms_cxr as reader

    for phrase in reader.read(_stream(data), _take):
        jsonl.dumps(phrase)


@target(
    "dicom_id,subject_id,study_id,ViewPosition,Rows,Columns\na,1,2,PA,9,9\n",
    "study,findings,impression\ns1,a,b\n",
    "dicom_id,subject_id,study_id,split\na,1,2,train\n",
    b"\x1f\x8b" + zlib.compress(b"a"),
)
def mimic(data: bytes) -> None:
    """Tables of MIMIC-CXR."""
    from medground.datasets import mimic_cxr
    from medground.errors import MedgroundError

    for read in (mimic_cxr.read_sectioned, mimic_cxr.read_images, mimic_cxr.read_splits):
        try:
            list(read(_stream(data), _take))
        except MedgroundError:
            continue


@target(
    '0{"image_id":"i","phrase_id":"p","text":"","boxes":[{"box":[1,2,3,4],"score":1}],"present":1,"model":""}',
    "1phrase_id,x1,y1,x2,y2,score\np,1,2,3,4,.5\n", '2[{"bbox":[1,2,3,4],"score":1,"phrase_id":"p"}]',
    '2{"images":[{"id":1,"image_id":"i"}],"annotations":[],"phrases":[{"image_id":1,"phrase_id":"p"}]}',
    '3{"phrase_id":"p","output":"<box><x10><y20><x30><y40></box>"}',
    '4{"phrase_id":"p","output":"[0.1, 0.2, 0.3, 0.4]"}',
    '6{"phrase_id":"p","output":"<|box|> (1,2),(3,4)"}', '<{"phrase_id":"p","output":"<loc_1><loc_2>"}',
    '8[{"image_id":"i","output":{"bbox":[1,2,3,4]}}]', '>{"image_id":"i","boxes":[[1,2,3,4]],"scores":[1]}',
)  # fmt: skip
def predictions(data: bytes) -> None:
    """Predictions in every format; the first byte chooses it."""
    from medground import jsonl, registry
    from medground.evaluation.inputs import predictions as reader
    from medground.records import Phrase

    names = list(registry.PREDICTION_FORMATS.built_in)  # those of the examples first
    phrases = [Phrase(image_id="i", phrase_id="p", path="i.png", text="x", width=9, height=9, boxes=[])]
    for each in reader.read(
        _stream(data[1:]), names[(sum(data[:1]) - ord("0")) % len(names)], None, phrases, _bad_lines()
    ):
        jsonl.dumps(each)


@target(
    '{"images":[{"id":1,"file_name":"i.png","width":9,"height":9}],"categories":[{"id":1,"name":"spine"}],'
    '"annotations":'
    '[{"image_id":1,"category_id":1,"segmentation":[[1,1,5,1,5,5]]},{"image_id":1,"category_id":1,"segmentation":'
    '{"size":[9,9],"counts":[10,71]}},{"image_id":1,"category_id":1,"bbox":[1,2,3,4],"segmentation":'
    '{"size":[9,9],"counts":"a1"}}]}'
)
def coco_masks(data: bytes) -> None:
    """COCO masks: polygons, run lengths, boxes."""
    from medground.anatomy import coco
    from medground.errors import MedgroundError

    def read(path: Path) -> None:
        found = coco.load(path)
        for image in list(found.sizes):
            try:
                list(found.parts(image, (9, 9)))
            except MedgroundError:
                continue

    _on_file(data, "masks.json", read)


def _picture(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.frombytes("L", (4, 4), bytes(range(16))).save(stream, kind)
    return stream.getvalue()


def _dicom() -> bytes:
    """Return a small DICOM file, explicit little endian."""

    def element(group: int, number: int, kind: bytes, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        length = (
            struct.pack("<HI", 0, len(value))
            if kind in (b"OB", b"OW", b"SQ")
            else struct.pack("<H", len(value))
        )
        return struct.pack("<HH", group, number) + kind + length + value

    meta = element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1")
    size = [
        element(0x28, n, b"US", struct.pack("<H", v))
        for n, v in ((0x10, 4), (0x11, 4), (0x100, 8), (0x101, 8), (0x102, 7), (0x103, 0))
    ]
    first = element(0x28, 2, b"US", struct.pack("<H", 1)) + element(0x28, 4, b"CS", b"MONOCHROME2")
    window = element(0x28, 0x1050, b"DS", b"8") + element(0x28, 0x1051, b"DS", b"16")
    return (
        b"\0" * 128
        + b"DICM"
        + element(2, 0, b"UL", struct.pack("<I", len(meta)))
        + meta
        + first
        + b"".join(size)
        + window
        + element(0x7FE0, 0x10, b"OW", bytes(range(16)))
    )


@target(*map(_picture, ("PNG", "JPEG", "TIFF")), _dicom())
def image(data: bytes) -> None:
    """Pictures: PNG, JPEG, TIFF, and a DICOM file, so that pydicom is imported first."""
    from medground import images

    _on_file(data, "i.png", lambda path: (images.describe(path), images.load(path)))


@target(_dicom())
def dicom(data: bytes) -> None:
    """DICOM images."""
    from medground import images

    data = data if data[128:132] == b"DICM" else b"\0" * 128 + b"DICM" + data
    _on_file(data, "i.dcm", lambda path: (images.describe(path), images.load(path)))


@target("[finetune]\nsteps = 5\nlr = 1e-3\nloss_weight = {box = 2}\n", "batch-size = 4\nseed = 1\n")
def config(data: bytes) -> None:
    """Values of --config."""
    from click.testing import CliRunner

    from medground.cli.main import cli

    def read(path: Path) -> None:
        flags = ["-o", str(path.parent / "run"), "--config", str(path)]
        result = CliRunner().invoke(cli, ["finetune", "/dev/null", *flags])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception

    _on_file(data, "k.toml", read)


@target("1/2", "slurm", "letterbox:640", "stretch:224x224", "=1+1", "'=a")
def words(data: bytes) -> None:
    """Small texts: shards, coordinate systems, cells, messages."""
    from medground import shards, spreadsheet
    from medground.answers import frames
    from medground.errors import MedgroundError, printable

    text = data.decode("utf-8", "surrogateescape")
    assert printable(text).isprintable() and spreadsheet.plain(spreadsheet.cell(text)) == text
    with suppress(ValueError):
        shards.parse(text, {})
    with suppress(MedgroundError):
        frames.check(text)
        frames.to_original(text, (0, 0, 1, 1), 9, 9)


def run(name: str, data: bytes) -> None:
    """Run a target on one input; raise only what is a finding."""
    from medground.errors import MedgroundError

    logging.getLogger().setLevel(logging.CRITICAL)
    try:
        TARGETS[name](data)
    except MedgroundError as error:
        assert str(error).isprintable()
