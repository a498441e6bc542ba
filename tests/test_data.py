"""Formats of labelled files, their repair, their checks, and their conversion."""

import json
from pathlib import Path

import pytest
import spacy
from conftest import DATA
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, DocBin

from mtl.data.convert import convert_splits
from mtl.data.docs import read_docs, record_to_doc, write_docs
from mtl.data.formats.conll import read_conll
from mtl.data.formats.detect import detect_format, read_records
from mtl.data.formats.reading import Reading
from mtl.data.formats.source import Source
from mtl.data.records import Entity, GoldAnswer, Question, Record, Report
from mtl.errors import UserError
from mtl.tasks.qa.gold import gold_questions
from mtl.tasks.span_classifier.gold import span_labels
from mtl.tasks.textcat.task import TextcatTask

NLP = spacy.blank("en")


def convert_text(tmp_path, text, name="file", format="auto"):
    """Read one file. Returns its Docs and the report."""
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    report = Report()
    return [record_to_doc(record, NLP, report) for record in read_records(path, report, Reading(format))], report


def entities(doc):
    """(text, label) of each entity."""
    return [(ent.text, ent.label_) for ent in doc.ents]


def test_json_lines_have_any_subset_of_the_annotations(tmp_path):
    rows = [
        {"text": "The pump failed.", "label": "A", "entities": [{"start": 4, "end": 8, "label": "PART"}]},
        {"text": "The pump failed.", "labels": ["A", "B"], "entities": []},
        {"text": "The pump failed.", "cats": {"A": 0.5}, "spans": [[4, 8, "PART"]]},
        {"text": "The pump.", "qas": [{"question": "What?", "answers": [{"text": "pump", "answer_start": 4}]},
                                      {"question": "Who?", "answers": []}]},
        {"text": "Nothing.", "label": None, "senses": []},
        {"text": "A pump .", "qas": [{"question": "Q?", "is_impossible": True}, {"question": "Z?", "id": "q1", "answers": []}],
         "entities": [[1, 7, "PART"]]},
    ]  # fmt: skip
    docs, report = convert_text(tmp_path, "\n".join(map(json.dumps, rows)) + "\n\n")
    assert docs[5].spans["qa"].attrs["questions"] == {"q2": "Q?", "q1": "Z?"} and not docs[5].spans["qa"]
    assert entities(docs[5]) == [("pump", "PART")] and report.counts["entities trimmed of white space"] == 1
    assert docs[0].cats == {"A": 1.0} and entities(docs[0]) == [("pump", "PART")] and "qa" not in docs[0].spans
    assert docs[1].cats == {"A": 1.0, "B": 1.0} and docs[1].has_annotation("ENT_IOB") and not docs[1].ents
    assert docs[2].cats == {"A": 0.5} and entities(docs[2]) == [("pump", "PART")]
    assert not docs[3].has_annotation("ENT_IOB") and docs[3].spans["qa"].attrs["questions"] == {"q1": "What?", "q2": "Who?"}
    assert [(span.text, span.id_) for span in docs[3].spans["qa"]] == [("pump", "q1")]
    assert not docs[4].cats and not docs[4].has_annotation("ENT_IOB")


def test_attributes_of_entities_are_a_list_or_an_object(tmp_path):
    """Flags share the key "attributes", a text value has its own key; an entity without attributes is not annotated."""
    part = {"start": 4, "end": 8, "label": "PART"}
    place = {"start": 12, "end": 16, "label": "LOC"}
    texts = [
        [part | {"attributes": ["worn", "left"]}, place | {"attributes": []}],
        [part | {"attributes": {"worn": True, "left": False, "grade": "high"}}, place],
        [part | {"attributes": None}, place],
        [[4, 8, "PART"], place],
    ]
    rows = [{"text": "The pump in Oslo failed.", "entities": row} for row in texts]
    docs, report = convert_text(tmp_path, "\n".join(map(json.dumps, rows)))
    assert all(entities(doc) == [("pump", "PART"), ("Oslo", "LOC")] for doc in docs)
    held = [{key: [(span.text, labels) for span, labels in span_labels(doc, key)] for key in doc.spans} for doc in docs]
    assert held == [
        {"attributes": [("pump", ["worn", "left"]), ("Oslo", [])]},
        {"attributes": [("pump", ["worn"])], "grade": [("pump", ["high"])]},
        {},
        {},
    ]
    assert docs[0].spans["attributes"][0].label_ == "PART"
    assert report.counts["documents with attributes of entities"] == 2
    assert report.counts["entities with attributes"] == 3 and report.counts["entities with grade"] == 1


def test_attributes_of_an_entity_off_token_boundaries_are_kept_for_whole_tokens(tmp_path):
    row = {"text": "The pumps failed.", "entities": [{"start": 4, "end": 8, "label": "PART", "attributes": ["worn"]}]}
    docs, report = convert_text(tmp_path, json.dumps(row))
    assert not docs[0].ents and [span.text for span in docs[0].spans["attributes"]] == ["pumps"]
    assert report.counts["entities with attributes widened to whole tokens"] == 1


CONLL = {
    "IOB2": "EU B-ORG\nrejects O\nNew B-LOC\nYork I-LOC\nBonn B-LOC\n",
    "IOB1": "EU I-ORG\nrejects O\nNew I-LOC\nYork I-LOC\nBonn B-LOC\n",
    "BIOES": "EU S-ORG\nrejects O\nNew B-LOC\nYork E-LOC\nBonn S-LOC\n",
}


@pytest.mark.parametrize("scheme", list(CONLL))
def test_conll_schemes_are_detected(tmp_path, scheme):
    docs, report = convert_text(tmp_path, CONLL[scheme])
    assert entities(docs[0]) == [("EU", "ORG"), ("New York", "LOC"), ("Bonn", "LOC")]
    assert report.counts[f"sentences read as {scheme}"] == 1


def test_conll_files_have_documents_comments_and_more_columns(tmp_path):
    text = "-DOCSTART- -X- O O\n\nEU NNP B-NP B-ORG\n\nBonn NNP B-NP B-LOC\n\n-DOCSTART- -X- O O\n\n# comment\nx X O O\n"
    docs, _ = convert_text(tmp_path, text.replace("\n", "\r\n"))
    assert [doc.text for doc in docs] == ["EU Bonn", "x"] and entities(docs[0]) == [("EU", "ORG"), ("Bonn", "LOC")]


TAGS = st.lists(st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"]), min_size=1, max_size=12)


@settings(deadline=None)
@given(TAGS)
def test_any_valid_iob2_sequence_is_read_as_the_entities_it_names(tmp_path_factory, tags):
    for i, tag in enumerate(tags):
        if tag[0] == "I" and (i == 0 or tags[i - 1][2:] != tag[2:]):
            tags[i] = "B" + tag[1:]
    if not any(tag[0] == "B" for tag in tags):
        return
    path = tmp_path_factory.mktemp("conll") / "f"
    path.write_text("".join(f"w{i} {tag}\n" for i, tag in enumerate(tags)))
    doc = record_to_doc(next(read_conll(Source(path), Report())), NLP, Report())
    assert [token.ent_iob_ + (f"-{token.ent_type_}" if token.ent_type_ else "") for token in doc] == tags


@pytest.mark.parametrize(
    "text, words",
    [
        ("EU B-ORG\nx I-LOC\n", ["line 2", "'I-LOC' cannot follow 'B-ORG'"]),
        ("a O\nb B-X\nx I-X\nc O\nd I-X\n", ["line 5", "'I-X' cannot follow 'O'"]),
        ("EU B-ORG\nword\n", ["line 2", "a token and a tag"]),
        ("EU B-ORG\nx Z-ORG\n", ["line 2", "'Z-ORG' is not an IOB tag"]),
        ("EU S-X\nx B-X\ny O\n", ["line 3", "not closed"]),
    ],
)
def test_invalid_iob_names_the_line(tmp_path, text, words):
    with pytest.raises(UserError) as error:
        convert_text(tmp_path, text, format="conll")
    assert all(word in str(error.value) for word in words), error.value


PUBTATOR = "1|t|Pump failure.\n1|a|The pump | valve broke.\n1\t0\t4\tPump\tPART\tD1\n1\t18\t22\tpump\tPART\n1\tCID\tD1\tD2\n\n"


def test_pubtator_files_are_read_and_their_mentions_checked(tmp_path):
    docs, report = convert_text(tmp_path, PUBTATOR * 2)
    assert len(docs) == 2 and docs[0].text == "Pump failure. The pump | valve broke."
    assert entities(docs[0]) == [("Pump", "PART"), ("pump", "PART")] and report.counts["relations left out"] == 2
    with pytest.raises(UserError, match=r"line 3: the mention is 'Pomp', but the text at 0:4 is 'Pump'"):
        convert_text(tmp_path, PUBTATOR.replace("\tPump", "\tPomp"))


def squad(context, answers, impossible=False):
    qa = {"id": "1", "question": "What?", "answers": answers, "is_impossible": impossible}
    return json.dumps({"data": [{"title": "t", "paragraphs": [{"context": context, "qas": [qa]}]}]})


def test_squad_files_are_read_and_wrong_offsets_repaired(tmp_path):
    text = "The pump failed, and the other pump too."
    docs, _ = convert_text(tmp_path, squad(text, [{"text": "pump", "answer_start": 4}]))
    assert docs[0].spans["qa"][0].start_char == 4
    docs, report = convert_text(tmp_path, squad(text, [{"text": "pump", "answer_start": 6}]))
    assert docs[0].spans["qa"][0].start_char == 4 and report.counts["answer offsets repaired"] == 1
    assert "is at 4, not at 6" in report.notes[0]
    docs, report = convert_text(tmp_path, squad(text, [{"text": "valve", "answer_start": 4}]))
    assert gold_questions(docs[0]) == {}  # left out, not made unanswerable
    assert report.counts["questions left out because none of their answers is in the text"] == 1
    docs, report = convert_text(tmp_path, squad(text, [], impossible=True))
    assert docs[0].spans["qa"].attrs["answers"] == {"1": []} and report.counts["questions without an answer"] == 1
    docs, report = convert_text(tmp_path, squad("It took 20mg.", [{"text": "20", "answer_start": 8}]))
    assert docs[0].spans["qa"].attrs["answers"] == {"1": ["20"]}  # scored against what was written
    with pytest.raises(UserError, match=r"article 0 .t., paragraph 0"):
        convert_text(tmp_path, '{"data": [{"title": "t", "paragraphs": [{"context": "x"}]}]}')


@settings(deadline=None)
@given(st.text("ab ", min_size=1, max_size=30), st.integers(0, 29), st.integers(1, 5), st.integers(-60, 60))
def test_a_repaired_answer_is_always_the_answers_text(text, start, size, shift):
    answer = text[start : start + size]
    record = Record(text, "here", questions=[Question("1", "Q?", [GoldAnswer(max(0, start + shift), answer)])])
    doc = record_to_doc(record, NLP, Report())
    assert all(text == answer.strip() != "" for text in doc.spans["qa"].attrs["answers"].get("1", []))


def test_mentions_off_token_boundaries_are_left_unannotated(tmp_path):
    record = Record("The pumps failed", "here", entities=[Entity(4, 8, "PART"), Entity(10, 16, "FAULT")])
    report = Report()
    doc = record_to_doc(record, NLP, report)
    assert entities(doc) == [("failed", "FAULT")] and [token.ent_iob for token in doc] == [2, 0, 3]
    assert report.counts["entities off token boundaries, their tokens left unannotated"] == 1


@pytest.mark.parametrize(
    "data, words",
    [
        (b"", ["the file is empty"]),
        (b'{"text": "a", "label": "A"}\n{"text": "caf\xe9"}\n', ["line 2", "0xe9", "UTF-8"]),
        (b'{"text": "a", "label": "A"}\n{"text": \n', ["line 2", "not valid JSON"]),
        (b'{"text": \n', ["line 2", "not valid JSON"]),
        (b'{"txt": "a"}\n', ["unknown format", "the keys 'txt'"]),
        (b'{"txt": "a", "label": "A"}\n', ["line 1", '"text" is needed', "'txt'"]),
        (b'{"text": "a", "entities": [{"start": 0}]}\n', ["line 1", '"end"', "{'start': 0}"]),
        (b'{"text": "a", "entities": [[0, 9, "X"]]}\n', ["line 1", "outside the text"]),
        (b'{"text": "a", "qas": [{"question": " ", "answers": []}]}\n', ["line 1", "is empty"]),
        (b'{"text": "a", "qas": [{"question": "Who?", "answer": "a"}]}\n', ["line 1", '"answers"']),
        (b'{"text": "a", "qas": [{"question": 5, "answers": []}]}\n', ["line 1", "question"]),
        (
            b'{"text": "a", "qas": [{"question": "Q", "answers": [{"text": "a"}]}]}\n',
            ["line 1", "answer_start"],
        ),
        (b'{"text": "a", "labels": "WEAR"}\n', ["line 1", "must be a list", "'WEAR'"]),
        (b'{"text": "a", "label": ""}\n', ["line 1", "not empty"]),
        (b'{"text": "a", "cats": {"A": NaN}}\n', ["line 1", "'A'", "from 0 to 1"]),
        (b'{"text": "a", "cats": {"A": 7}}\n', ["line 1", "'A'", "from 0 to 1"]),
        (b'{"text": "a", "cats": {"A": 1}, "label": "A"}\n', ["line 1", "keep one"]),
        (b'{"text": "a", "entities": [], "spans": []}\n', ["line 1", "keep one"]),
        (b'{"text": "a", "entities": [[0, 1, null]]}\n', ["line 1", "None"]),
        (b'{"text": "a", "entities": [[0.5, 1, "X"]]}\n', ["line 1", "whole numbers"]),
        (
            b'{"text": "a", "entities": [{"start": 0, "end": 1, "label": "X", "attributes": "old"}]}\n',
            ["line 1", "'old'", "a list"],
        ),
        (
            b'{"text": "a", "entities": [{"start": 0, "end": 1, "label": "X", "attributes": {"old": 1}}]}\n',
            ["line 1", "{'old': 1}"],
        ),
        (b'{"text": "a", "entities": [{"start": 0, "end": 1, "label": "X", "attributes": {"old": null}}]}\n', ["'old': None"]),
        (b'{"text": "a", "entities": [{"start": 0, "end": 1, "label": "X", "attributes": {"grade": " "}}]}\n', ["not empty"]),
        (
            b'{"text": "a", "entities": [{"start": 0, "end": 1, "label": "X", "attributes": {"": true}}]}\n',
            ["line 1", "not empty"],
        ),
        (b'{"text": "a", "entities": [{"start": 0, "end": 1, "label": "X", "attributes": ["old", true]}]}\n', ["line 1", "True"]),
        (b'{"text": 5, "label": "A"}\n', ["line 1", "5 is not a string"]),
        (b'{"text": "\\ud83d", "label": "A"}\n', ["line 1", "half a character"]),
        (b'{"data": [{"paragraphs": [{"context": 5, "qas": []}]}]}\n', ["article 0", "paragraph 0", "context"]),
        (b'{"data": ["x"]}\n', ["article 0", "the shape of SQuAD JSON"]),
        ("caf\xe9".encode("utf-16-le"), ["not a text file", "UTF-16", "--encoding utf-16-le"]),
        (b"PK\0\0", ["not a text file"]),
        (b"hello\n", ["unknown format", "--format"]),
    ],
)
def test_errors_in_a_file_name_line_and_remedy(tmp_path, data, words):
    with pytest.raises(UserError) as error:
        convert_text(tmp_path, data)
    assert all(word in str(error.value) for word in words), error.value


def test_a_missing_file_is_named_and_a_byte_order_mark_dropped(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such file"):
        list(read_records(tmp_path / "nowhere", Report()))
    docs, _ = convert_text(tmp_path, b'\xef\xbb\xbf{"text": "a", "label": "A"}\r\n')
    assert docs[0].text == "a"


def test_the_format_is_detected_by_content(tmp_path):
    for text, format in (
        (PUBTATOR, "pubtator"),
        (CONLL["IOB1"], "conll"),
        (squad("x", []), "squad"),
        ('{"text": "data"}\n', "jsonl"),
    ):
        (tmp_path / "file.json").write_text(text)
        assert detect_format(Source(tmp_path / "file.json")) == format
    (tmp_path / "file.json").write_text(json.dumps(json.loads(squad("x", [])), indent=1))
    assert detect_format(Source(tmp_path / "file.json")) == "squad"


def convert(tmp_path, train, dev, **kwargs):
    for name, rows in (("train", train), ("dev", dev)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = {name: tmp_path / f"{name}.jsonl" for name in ("train", "dev")}
    paths = {name: tmp_path / "out" / f"{name}.spacy" for name in files}
    options = {"shard_size": 10, **kwargs}
    return convert_splits(files, paths, **options), paths


def test_a_label_that_the_training_data_lacks_is_an_error_unless_allowed(tmp_path):
    train, dev = [{"text": "a", "label": "WEAR"}, {"text": "c", "label": "FOD"}], [{"text": "b", "label": "WAER"}]
    with pytest.raises(
        UserError, match=r"dev.jsonl, line 1: categories: 'WAER' does not occur in .*train.jsonl; known: FOD, WEAR"
    ):
        convert(tmp_path, train, dev)
    assert not (tmp_path / "out").exists()  # nothing half-written
    reports, _ = convert(tmp_path, train, dev, allow_unseen=True)
    assert reports["dev"].counts["labels that the training data lacks"] == 1


def test_splits_share_categories_and_repeated_documents_are_reported(tmp_path):
    train = [{"text": "a", "label": "A"}, {"text": "b", "label": "B"}, {"text": "c", "cats": {"A": 1}}]
    reports, paths = convert(tmp_path, train, [{"text": "a", "label": "A"}])
    docs = list(read_docs(paths["train"], NLP.vocab))
    assert docs[0].cats == {"A": 1.0, "B": 0.0} and docs[2].cats == {"A": 1.0}  # "cats" says nothing of B
    assert next(read_docs(paths["dev"], NLP.vocab)).cats == {"A": 1.0, "B": 0.0}
    assert reports["dev"].counts["documents that are in train too"] == 1


def test_a_file_without_annotation_is_refused(tmp_path):
    with pytest.raises(UserError, match="none of its 1 documents has an annotation"):
        convert(tmp_path, [{"text": "a", "kategorie": "A"}], [{"text": "b", "label": "A"}])


def test_keys_that_no_task_reads_are_counted(tmp_path, monkeypatch):
    """They are in `Record.extra`, as written; a task may claim one."""
    train = [{"text": "a", "label": "A", "senses": []}, {"text": "b", "label": "A", "id": 7, "senses": [1], "note": None}]
    dev = [{"text": "c", "label": "A"}]
    reports, paths = convert(tmp_path, train, dev)
    unread = {key: count for key, count in reports["train"].counts.items() if key.endswith("which is not read")}
    assert unread == {
        "documents with 'senses', which is not read": 2,
        "documents with 'id', which is not read": 1,
        "documents with 'note', which is not read": 1,
    }
    assert not any("not read" in key for key in reports["dev"].counts)
    assert [record.extra for record in read_records(tmp_path / "train.jsonl", Report())] == [
        {"senses": []},
        {"id": 7, "senses": [1], "note": None},
    ]
    assert not any(doc.has_annotation("ENT_IOB") for doc in read_docs(paths["train"], NLP.vocab))
    monkeypatch.setattr(TextcatTask, "json_keys", ("senses", "note"))
    reports, _ = convert(tmp_path, train, dev)
    assert [key for key in reports["train"].counts if "not read" in key] == ["documents with 'id', which is not read"]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.text(min_size=1, max_size=20), max_size=12), st.integers(1, 5))
def test_shards_keep_every_document_in_order(tmp_path_factory, texts, size):
    folder = tmp_path_factory.mktemp("shards") / "docs"
    docs = [NLP.make_doc(text) for text in texts]
    if not docs:
        return
    assert write_docs(docs, folder, size) == len(texts)
    assert [doc.text for doc in read_docs(folder, NLP.vocab)] == texts
    assert len(list(folder.iterdir())) == -(-len(texts) // size)


def test_writing_again_replaces_a_file_and_failing_keeps_it(tmp_path):
    path = tmp_path / "docs.spacy"
    write_docs([NLP.make_doc("one")], path)

    def failing():
        yield NLP.make_doc("two")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_docs(failing(), path)
    assert [doc.text for doc in read_docs(path, NLP.vocab)] == ["one"]


def test_a_docbin_keeps_the_annotation():
    record = Record(
        "The pump failed.", "", {"A": 1.0}, True, [Entity(4, 8, "PART")], [Question("1", "What?", [GoldAnswer(4, "pump")])]
    )
    doc = record_to_doc(record, NLP, Report())
    back = next(DocBin().from_bytes(DocBin(docs=[doc]).to_bytes()).get_docs(NLP.vocab))
    assert isinstance(back, Doc) and back.cats == {"A": 1.0} and entities(back) == [("pump", "PART")]
    assert back.spans["qa"].attrs == {"questions": {"1": "What?"}, "answers": {"1": ["pump"]}} and back.spans["qa"][0].id_ == "1"


@pytest.mark.skipif(not DATA.exists(), reason="needs the public benchmark data (set MTL_DATA to its folder)")
def test_the_public_files_are_read_completely():
    files = {
        "biomedical/ner_bc5cdr/CDR_TrainingSet.PubTator.txt": ("pubtator", 500),
        "biomedical/textcat_abstract_roles/abstract_roles_validation.jsonl": ("jsonl", 919),
        "biomedical/qa_evidence_inference/squad_sections_validation.json": ("squad", 161),
        "general/xquad_en/xquad.en.json": ("squad", 240),
    }
    for name, (format, count) in files.items():
        report = Report()
        path = Path(DATA) / name
        assert detect_format(Source(path)) == format
        docs = [record_to_doc(record, NLP, report) for record in read_records(path, report)]
        assert len(docs) == count
        assert not report.counts.get("answers left out because their text is not near the offset")


@pytest.mark.parametrize("separator", [" ", "  ", "\t", " \t"])
@pytest.mark.parametrize("token", ["5\u00a0mg", "a\u3000b", "\u00a05", "x\u2028y", "x\x85y", "10\u202f000"])
def test_conll_tokens_keep_every_character(tmp_path, separator, token):
    file = tmp_path / "a.conll"
    file.write_text(f"{token}{separator}X{separator}B-DOSE\nO{separator}X{separator}O\n", encoding="utf-8")
    (record,) = read_conll(Source(Path(file)), Report())
    assert record.text == f"{token} O" and record.text[record.entities[0].start : record.entities[0].end] == token


@pytest.mark.parametrize(
    "row, cats, entities",
    [
        ({"label": "SPAM", "answer": "accept"}, {"SPAM": 1.0}, None),
        ({"label": "SPAM", "answer": "reject"}, {"SPAM": 0.0}, None),
        ({"label": "SPAM", "answer": "ignore"}, "left out", None),
        ({"spans": [[0, 3, "X"]], "answer": "accept"}, None, 1),
        ({"spans": [[0, 3, "X"]], "answer": "reject"}, "left out", None),
        ({"spans": [[0, 3, "X"]], "answer": "ignore"}, "left out", None),
        ({"spans": [[0, 3, "X"]], "label": "SPAM", "answer": "reject"}, {"SPAM": 0.0}, None),
        ({"cats": {"A": 1}, "answer": "reject"}, "left out", None),
    ],
)
def test_rows_mean_what_the_annotator_decided(tmp_path, row, cats, entities):
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"text": "The pump.", **row}) + "\n")
    report = Report()
    records = list(read_records(file, report))
    if cats == "left out":
        assert not records and sum(report.counts.values()) == 1
        return
    (record,) = records
    assert record.cats == cats and (record.entities is None if entities is None else len(record.entities) == entities)
    assert bool(report.counts) == (row["answer"] == "reject")


def test_an_unknown_answer_is_refused(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "a", "label": "X", "answer": "rejected"}')
    with pytest.raises(UserError, match=r"a.jsonl, line 1: \"answer\" must be accept, reject or ignore, got 'rejected'"):
        list(read_records(file, Report()))


@pytest.mark.skipif(not DATA.exists(), reason="needs the public benchmark data (set MTL_DATA to its folder)")
def test_every_annotation_of_the_public_entities_is_accounted_for(tmp_path):
    """Those that the documents hold, those beside the tokens, and those that overlap another, are all there are."""
    files = {split: DATA / "biomedical" / "ner_bc5cdr" / f"CDR_{name}Set.PubTator.txt"
             for split, name in (("train", "Training"), ("dev", "Development"))}  # fmt: skip
    mentions = sum(line.count("\t") >= 5 for file in files.values() for line in file.read_text(encoding="utf-8").splitlines())
    reports = convert_splits(files, {split: tmp_path / f"{split}.spacy" for split in files})
    ways = ("entities", "entities off token boundaries, their tokens left unannotated",
            "entities that overlap another, which are in doc.spans['sc'] alone")  # fmt: skip
    assert mentions == 18_976 == sum(report.counts.get(way, 0) for report in reports.values() for way in ways)
