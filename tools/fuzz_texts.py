"""Targets of tools/fuzz that read text: records, reports, tables, predictions, published files, options."""

import json
import zlib
from contextlib import suppress
from functools import cache
from pathlib import Path

from fuzz_registry import bad_lines, on_file, stream, take, target

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
            for record in jsonl.read(stream(data), kind, bad_lines()):
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
    from medground.reports import input_kind

    table = encodings.as_utf8(stream(data), "input")
    input_kind.kind_of(table.peek(100), "")
    for _ in report_input.read_table(table, "input", None, take):
        pass


@target(
    "FINDINGS: Small left effusion. No pneumothorax.\nIMPRESSION: 1. Stable.",
    "CHEST 2 VIEWS: ok",
    "\xa0\x85.",
)
def report(data: bytes) -> None:
    """One report: decoding, sections, sentences, findings; spans are inside the text."""
    from medground.reports import input as report_input

    for each in report_input.read_one(stream(data), "input", take):
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

    for sentence in reader.read(stream(data), lambda words: None, lambda words, finding: ["spine"], take):
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
            lambda: chest_imagenome.read_anatomy(path.parent, images, take),
            lambda: imagenome_sentences.read(path.parent, take),
        ):
            try:
                list(reader())
            except MedgroundError:
                continue

    on_file(data, "i_SceneGraph.json", read)


@target(
    "dicom_id,category_name,label_text,x,y,w,h,image_width,image_height\ni,Edema,x,1,2,3,4,9,9\n",
    '{"images":[{"id":1,"file_name":"i.jpg","width":9,"height":9}],"categories":[{"id":1,"name":"Edema"}],'
    '"annotations":[{"image_id":1,"category_id":1,"bbox":[1,2,3,4],"label_text":"x"}]}',
)
def ms_cxr(data: bytes) -> None:
    """MS-CXR as a table and as COCO."""
    from medground import jsonl
    from medground.datasets import ms_cxr as reader

    for phrase in reader.read(stream(data), take):
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
            list(read(stream(data), take))
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
        stream(data[1:]), names[(sum(data[:1]) - ord("0")) % len(names)], None, phrases, bad_lines()
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

    on_file(data, "masks.json", read)


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

    on_file(data, "k.toml", read)


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
