"""What a path can be: archives, folders, data sets, encodings; and what is repaired, or never unpacked."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile

import pytest
import spacy
from datasets import ClassLabel, Dataset, DatasetDict, Features, Sequence, Value
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import mtl
from mtl.cli.app import app
from mtl.data.convert import convert_splits
from mtl.data.docs import record_to_doc
from mtl.data.formats.detect import read_records
from mtl.data.formats.mentions import characters_of_bytes, characters_of_utf16, place_mention
from mtl.data.formats.reading import Reading, make_reading
from mtl.data.formats.unpack import files_in
from mtl.data.records import Report
from mtl.errors import UserError

ROWS = [{"text": "The pump failed.", "label": "WEAR"}, {"text": "A clamp was loose.", "label": "FOD"}]
LINES = "\n".join(map(json.dumps, ROWS)) + "\n"


def read(path, **options):
    report = Report()
    return list(read_records(path, report, make_reading(**options))), report


def found(record):
    return [(record.text[e.start : e.end], e.label) for e in record.entities]


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path, files, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


# Archives and compressed files


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_file_is_known_by_its_first_bytes(tmp_path, pack):
    (tmp_path / "export").write_bytes(pack(LINES.encode()))
    assert [record.text for record in read(tmp_path / "export")[0]] == [row["text"] for row in ROWS]


def test_an_archive_is_read_like_its_folder_and_messages_name_it(tmp_path):
    files = {"a/one.jsonl": LINES, "a/two.jsonl": LINES, "__MACOSX/a/._one.jsonl": "\0\0", ".DS_Store": "\0"}
    for path in (
        zipped(tmp_path / "x.zip", files),
        tarred(tmp_path / "x.tgz", {name: content.encode() for name, content in files.items()}),
        tarred(tmp_path / "x.tar", {name: content.encode() for name, content in files.items()}, "w"),
    ):
        records, report = read(path)
        assert len(records) == 4 and report.counts["files"] == 2 and records[3].where == f"{path}/a/two.jsonl, line 2"
    zipped(tmp_path / "bad.zip", {"all.jsonl": LINES + "{"})
    with pytest.raises(UserError, match=r"bad\.zip/all\.jsonl, line 3: not valid JSON"):
        read(tmp_path / "bad.zip")


def test_an_archive_of_brat_is_read(tmp_path):
    zipped(tmp_path / "brat.zip", {"d/a.txt": "The pump failed.", "d/a.ann": "T1\tPART 4 8\tpump\n"})
    (record,), report = read(tmp_path / "brat.zip")
    assert found(record) == [("pump", "PART")] and report.format == "brat standoff"


@pytest.mark.parametrize("name", ["../evil.jsonl", "/etc/evil.jsonl", "a/../../evil.jsonl", "C:\\evil.jsonl", "..\\evil.jsonl"])
def test_an_archive_never_leads_out_of_its_folder(tmp_path, name):
    for path in (zipped(tmp_path / "x.zip", {name: LINES}), tarred(tmp_path / "x.tar.gz", {name: LINES.encode()})):
        with pytest.raises(UserError, match="leads out of the folder"):
            read(path)
    assert not list(tmp_path.parent.glob("evil*"))


def test_links_in_an_archive_are_refused(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        info = tarfile.TarInfo("passwd.jsonl")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(UserError, match=r"'passwd.jsonl' in the archive is a link"):
        read(tmp_path / "x.tar")


def test_a_bomb_is_not_unpacked(tmp_path):
    zipped(tmp_path / "x.zip", {f"{i}.jsonl": b"\0" * 30_000_000 for i in range(5)})
    with pytest.raises(UserError, match="looks like a bomb"):
        read(tmp_path / "x.zip")


def test_damaged_locked_and_empty_archives_are_named(tmp_path):
    zipped(tmp_path / "x.zip", {"a.jsonl": LINES * 100})
    whole = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    zipped(tmp_path / "empty.zip", {})
    for name in ("cut.zip", "empty.zip"):
        with pytest.raises(UserError, match=name):
            read(tmp_path / name)


# Folders


def test_a_folder_of_one_format_is_read_and_a_mixed_one_refused(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.jsonl").write_text(LINES)
    (tmp_path / "sub" / "b.jsonl").write_text(LINES)
    (tmp_path / "LICENSE").write_text("Do what you like.")
    records, report = read(tmp_path)
    assert len(records) == 4 and report.counts["files left out because their format is unknown"] == 1
    (tmp_path / "c.conll").write_text("pump B-PART\n")
    with pytest.raises(UserError, match=r"several formats \(jsonl: a.jsonl, b.jsonl; conll: c.conll\)"):
        read(tmp_path)


def test_a_folder_without_labelled_files_says_so(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(UserError, match="no file in the folder has a known format"):
        read(tmp_path)


def test_links_that_go_in_a_circle_are_not_followed(tmp_path):
    (tmp_path / "a.jsonl").write_text(LINES)
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    assert files_in(tmp_path) == [tmp_path / "a.jsonl"] and len(read(tmp_path)[0]) == 2


# Data sets


def named_data():
    features = Features({"tokens": Sequence(Value("string")), "ner_tags": Sequence(ClassLabel(names=["O", "B-PART", "I-PART"]))})
    return Dataset.from_dict({"tokens": [["The", "fuel", "pump"]], "ner_tags": [[0, 1, 2]]}, features=features)


def test_a_saved_data_set_keeps_the_names_of_its_classes(tmp_path):
    named_data().save_to_disk(str(tmp_path / "one"))
    (record,), report = read(tmp_path / "one")
    assert found(record) == [("fuel pump", "PART")] and report.format == "tokens and tags"
    DatasetDict({"train": named_data(), "test": named_data()}).save_to_disk(str(tmp_path / "all"))
    with pytest.raises(UserError, match=r"several splits; give one: .*all/train, .*all/test"):
        read(tmp_path / "all")
    assert len(read(tmp_path / "all" / "test")[0]) == 1


def test_a_name_on_the_hub_is_loaded_by_datasets(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text(LINES)
    (tmp_path / "data" / "test.jsonl").write_text(LINES.split("\n")[0])
    assert len(read(f"hf:{tmp_path / 'data'}")[0]) == 2 and len(read(f"hf:{tmp_path / 'data'}@test")[0]) == 1
    with pytest.raises(UserError, match=r"hf:nobody/nothing@dev: the data set cannot be loaded"):
        read("hf:nobody/nothing@dev")


# Encodings


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252", "shift_jis"])
@pytest.mark.parametrize(
    "name,content",
    [
        ("a.jsonl", '{"text": "Caf%s.", "label": "A"}\r\n\r\n{"text": "x", "label": "B"}\r\n'),
        ("a.csv", 'text,label\r\n"Caf%s.",A\r\nx,B\r\n'),
        ("a.json", '[{"text": "Caf%s.", "label": "A"},\r\n {"text": "x", "label": "B"}]'),
    ],
)
def test_text_is_read_in_the_encoding_that_is_named(tmp_path, encoding, name, content):
    letter = "ュ" if encoding == "shift_jis" else "é"
    (tmp_path / name).write_bytes((content % letter).encode(encoding))
    records, _ = read(tmp_path / name, **({} if encoding in ("utf-8-sig", "utf-16") else {"encoding": encoding}))
    assert [record.text for record in records] == [f"Caf{letter}.", "x"]


def test_another_encoding_is_named_with_line_and_remedy(tmp_path):
    (tmp_path / "a.jsonl").write_bytes('{"text": "x", "label": "A"}\n{"text": "Café", "label": "A"}\n'.encode("latin-1"))
    with pytest.raises(UserError, match=r"line 2: byte 0xe9 is not valid UTF-8.*--encoding cp1252"):
        read(tmp_path / "a.jsonl")
    with pytest.raises(UserError, match=r"line 2: byte 0xe9 is not valid ASCII"):
        read(tmp_path / "a.jsonl", encoding="ascii")
    with pytest.raises(UserError, match="--encoding 'latin99': there is no such encoding"):
        read(tmp_path / "a.jsonl", encoding="latin99")


# Formats with files of their own kind

WEBANNO = """#FORMAT=WebAnno TSV 3.3
#T_SP=de.tudarmstadt.ukp.dkpro.core.api.lexmorph.type.pos.POS|PosValue
#T_SP=de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity|identifier|value
#T_RL=webanno.custom.Part|kind|BT_webanno.custom.Entity


#Text=The 🔧 fuel pump
1-1\t0-3\tThe\tDT\t_\t_\t_\t_
1-2\t4-6\t🔧\tNN\t_\t_\t_\t_
1-3\t7-11\tfuel\tNN\t*[1]\tPART[1]|SYS\\_A[2]\t_\t_
1-4\t12-16\tpump\tNN\t*[1]\tPART[1]\t_\t_

#Text=in Oslo-based
2-1\t17-19\tin\tIN\t_\t_\t_\t_
2-2\t20-30\tOslo-based\tJJ\t_\t_\t_\t_
2-2.1\t20-24\tOslo\t_\t*\tLOC\t_\t_
"""
CONLLU = """# newdoc id = 1
# text = Don't stop in Oslo.
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\t_\t_\t3\taux\t_\tNER=O
2\tn't\tnot\tPART\t_\t_\t3\tadvmod\t_\tNER=O
3\tstop\tstop\tVERB\t_\t_\t0\troot\t_\tNER=O
4\tin\tin\tADP\t_\t_\t5\tcase\t_\tNER=O
5\tOslo\tOslo\tPROPN\t_\t_\t3\tobl\t_\tNER=B-LOC|SpaceAfter=No
5.1\tgone\t_\t_\t_\t_\t_\t_\t_\tNER=B-X
6\t.\t.\tPUNCT\t_\t_\t3\tpunct\t_\tNER=O
"""


def test_webanno_counts_utf16_and_reads_the_layer_of_entities(tmp_path):
    (tmp_path / "a.tsv").write_text(WEBANNO, encoding="utf-8")
    (record,), report = read(tmp_path / "a.tsv")
    assert record.text == "The 🔧 fuel pump\nin Oslo-based"
    assert sorted(found(record)) == [("Oslo", "LOC"), ("fuel", "SYS_A"), ("fuel pump", "PART")]
    assert report.format == "WebAnno TSV" and report.counts["layers of relations and chains left out"] == 1
    (record,), _ = read(tmp_path / "a.tsv", columns={"tag": "PosValue"})
    assert found(record)[:2] == [("The", "DT"), ("🔧", "NN")]
    with pytest.raises(UserError, match=r"which feature.*POS.PosValue, NamedEntity.identifier, NamedEntity.value"):
        read(tmp_path / "a.tsv", columns={"tag": "colour"})


def test_conllu_reads_entities_from_its_last_column(tmp_path):
    (tmp_path / "a.conllu").write_text(CONLLU, encoding="utf-8")
    (record,), report = read(tmp_path / "a.conllu")
    assert record.text == "Don't stop in Oslo." and found(record) == [("Oslo", "LOC")] and report.format == "CoNLL-U"
    (tmp_path / "b.conllu").write_text(CONLLU.replace("NER=", "Other="), encoding="utf-8")
    with pytest.raises(UserError, match=r"CoNLL-U without entities.*--column tag=KEY"):
        read(tmp_path / "b.conllu")
    assert found(read(tmp_path / "b.conllu", columns={"tag": "Other"})[0][0]) == [("Oslo", "LOC")]


def test_a_file_without_sentences_is_cut_and_read_in_no_time(tmp_path):
    sentence = "the O\nfuel B-PART\npump I-PART\nfailed O\n. O\n"
    (tmp_path / "a.conll").write_text("-DOCSTART- O\n\n" + sentence * 14_000)
    records, report = read(tmp_path / "a.conll")
    assert max(len(record.text.split()) for record in records) <= 1001
    assert sum(len(record.entities) for record in records) == 14_000
    assert report.counts["sentences of more than 1,000 tokens, cut behind full stops"] == 1
    assert all(entity == ("fuel pump", "PART") for record in records for entity in found(record))


def test_sentences_without_documents_are_put_together(tmp_path):
    (tmp_path / "a.conll").write_text("a O\n\nb O\n\nc B-X\n")
    assert [record.text for record in read(tmp_path / "a.conll", sentences=2)[0]] == ["a b", "c"]


# Repairs


def test_tags_are_repaired_if_that_is_wanted(tmp_path):
    (tmp_path / "a.conll").write_text("in O\nOslo I-LOC\nNorway I-GPE\n\nx B-X\n\ny B-X\n")
    with pytest.raises(UserError, match=r"line 2: 'I-LOC' cannot follow 'O'.*--repair tags"):
        read(tmp_path / "a.conll")
    records, report = read(tmp_path / "a.conll", repair=["tags"])
    assert found(records[0]) == [("Oslo", "LOC"), ("Norway", "GPE")]
    assert report.counts["tags repaired, which could not follow the one before"] == 2 and "line 3" in report.notes[1]
    with pytest.raises(UserError, match="--repair"):
        read(tmp_path / "a.conll", repair=["everything"])


@pytest.mark.parametrize(
    "start,end,counted",
    [
        (7, 12, "mentions with offsets in UTF-16 units, converted"),
        (12, 17, "mentions with offsets in bytes, converted"),
        (20, 25, "mentions found near their offsets"),
    ],
)
def test_mentions_are_found_by_other_units_or_nearby(tmp_path, start, end, counted):
    text = "é 🔧🔧 pumps failed in the plant in Oslo"  # pumps: 5:10 in characters, 7:12 in UTF-16, 12:17 in bytes
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    (tmp_path / "a.ann").write_text(f"T1\tPART {start} {end}\tpumps\nT2\tX 0 1\tnowhere\n")
    with pytest.raises(UserError, match=r"the mention is 'pumps'.*--repair offsets"):
        read(tmp_path / "a.ann")
    (record,), report = read(tmp_path / "a.ann", repair=["offsets"])
    assert found(record) == [("pumps", "PART")] and report.counts[counted] == 1
    assert report.counts["mentions left out because they are not near their offsets"] == 1


@given(st.text(min_size=1), st.data())
def test_offsets_of_other_units_come_back(text, data):
    place = data.draw(st.integers(0, len(text)))
    try:
        units, size = len(text[:place].encode("utf-16-le")) // 2, len(text[:place].encode())
    except UnicodeEncodeError:
        return
    assert characters_of_utf16(text, units) == place and characters_of_bytes(text, size) == place


def test_a_mention_at_its_place_is_never_moved():
    for repair in ((), ("offsets",)):
        assert place_mention("a pump, a pump", 10, 14, "pump", "x", Report(), make_reading(repair=repair)) == (10, 14)


def test_a_text_in_a_wrong_encoding_is_decoded_anew_with_its_annotation(tmp_path):
    text = "The café in Zürich — “Café Ä” — was closed; déjà vu."
    wrong = text.encode().decode("latin-1")
    start = wrong.index("Zürich".encode().decode("latin-1"))
    end = start + len("Zürich".encode().decode("latin-1"))
    answer = "café".encode().decode("latin-1")
    row = {"text": wrong, "entities": [[start, end, "LOC"]],
           "qas": [{"question": "What?", "answers": [{"text": answer, "answer_start": wrong.index(answer)}]}]}  # fmt: skip
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({"text": "Plain.", "label": "A"}))
    (record, plain), report = read(tmp_path / "a.jsonl", repair=["text"])
    assert record.text == text and found(record) == [("Zürich", "LOC")] and report.counts["texts decoded anew"] == 1
    (question,) = record.questions
    assert [(a.text, record.text[a.start : a.start + len(a.text)]) for a in question.answers] == [("café", "café")]
    assert plain.text == "Plain." and read(tmp_path / "a.jsonl")[0][0].text == wrong


# Labels that look alike


def splits(tmp_path, labels, **options):
    rows = [{"text": f"text {i}", "label": label} for i, label in enumerate(labels)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    reports = convert_splits({"train": tmp_path / "a.jsonl"}, {"train": tmp_path / "out.spacy"}, **options)
    docs = spacy.tokens.DocBin().from_disk(tmp_path / "out.spacy").get_docs(spacy.blank("en").vocab)
    return [max(doc.cats, key=doc.cats.get) for doc in docs], reports["train"].counts


def test_labels_that_look_alike_are_asked_about(tmp_path, monkeypatch):
    labels = ["Positive", "positive ", "Positive", "negative"]
    with pytest.raises(UserError, match=r"'Positive' \(2\), 'positive' \(1\) differ.*--spelling merge makes 'Positive'"):
        splits(tmp_path, labels)
    assert splits(tmp_path, labels, spelling="merge")[0] == ["Positive", "Positive", "Positive", "negative"]
    kept, counts = splits(tmp_path, labels, spelling="keep")
    assert kept == ["Positive", "positive", "Positive", "negative"]
    assert counts["labels of categories with blanks at the edges, which were removed"] == 1
    result = CliRunner().invoke(app, ["convert", str(tmp_path / "a.jsonl"), "--out", str(tmp_path / "cli")])
    assert result.exit_code != 0 and not (tmp_path / "cli").exists()
    monkeypatch.setattr("mtl.cli.convert.can_ask", lambda: True)
    result = CliRunner().invoke(app, ["convert", str(tmp_path / "a.jsonl"), "--out", str(tmp_path / "cli")], input="y\n")
    assert result.exit_code == 0 and "Are they the same label?" in result.output
    assert "2 spellings of 'Positive', merged" in result.output


# From Python, and what the command says


def test_read_gives_documents(tmp_path):
    (tmp_path / "a.csv").write_text("Body;Type\nThe pump failed.;WEAR\n")
    (doc,) = mtl.read(tmp_path / "a.csv", columns={"text": "Body", "label": "Type"})
    assert doc.text == "The pump failed." and doc.cats == {"WEAR": 1.0}


def test_a_column_may_lead_into_objects_and_a_wrong_one_is_named(tmp_path):
    row = {"id": 1, "meta": {"body": "The pump failed."}, "info": {"type": "WEAR"}}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    (doc,) = mtl.read(tmp_path / "a.jsonl", columns={"text": "meta.body", "label": "info.type"})
    assert doc.cats == {"WEAR": 1.0}
    with pytest.raises(UserError, match=r"--column group=patient: no file has 'patient'"):
        mtl.read(tmp_path / "a.jsonl", columns={"text": "meta.body", "label": "info.type", "group": "patient"})


def test_a_key_with_a_typing_error_is_shown_with_what_is_meant(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": "A", "entites": []}\n')
    reports = mtl.convert({"train": tmp_path / "a.jsonl"}, tmp_path / "out")
    assert reports["train"].counts["documents with 'entites', which is not read; is 'entities' meant?"] == 1


def test_the_report_has_every_note(tmp_path):
    (tmp_path / "a.conll").write_text("\n\n".join("in B-LOC\nOslo I-PER\nx O" for _ in range(9)))
    arguments = ["convert", str(tmp_path / "a.conll"), "--out", str(tmp_path / "out"), "--report", str(tmp_path / "r.json")]
    result = CliRunner().invoke(app, [*arguments, "--repair", "tags"])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r.json").read_text())["train"]
    assert len(report["notes"]) == report["counts"]["tags repaired, which could not follow the one before"] == 9


def test_every_record_becomes_a_document(tmp_path):
    (tmp_path / "a.jsonl").write_text(LINES)
    nlp = spacy.blank("en")
    assert [record_to_doc(record, nlp, Report()).text for record in read_records(tmp_path / "a.jsonl", Report(), Reading())]
