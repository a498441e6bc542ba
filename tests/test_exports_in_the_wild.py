"""What exports of tools say and mean: partial answers, several fields, usual names, tables of entities, tokens or categories."""

import csv
import io
import json
from collections import namedtuple

import openpyxl
import pytest
import spacy
from hypothesis import given, settings
from test_formats import annotated, as_tags
from typer.testing import CliRunner

import mtl
from mtl.cli.app import app
from mtl.data.convert import convert_splits
from mtl.data.formats.detect import FORMATS, read_records
from mtl.data.formats.examples import EXAMPLES
from mtl.data.formats.reading import make_reading
from mtl.data.records import Report
from mtl.errors import UserError

TEXT = "Apple buys Uber in Oslo."
APPLE, UBER, OSLO = (0, 5), (11, 15), (19, 23)
Read = namedtuple("Read", "records report")


def read(path, content, **options):
    """Write a file (text, rows as JSON Lines, or JSON), and read it."""
    if not isinstance(content, str):
        is_rows = isinstance(content, list) and path.suffix == ".jsonl"
        content = "\n".join(map(json.dumps, content)) if is_rows else json.dumps(content)
    path.write_text(content, encoding="utf-8")
    report = Report()
    return Read(list(read_records(path, report, make_reading(**options))), report)


def found(record):
    return [(record.text[e.start : e.end], e.label) for e in record.entities] if record.entities is not None else None


def held(record):
    return {label for label, degree in record.cats.items() if degree} if record.cats is not None else None


# Prodigy: what an annotator was asked


def test_binary_answers_of_prodigy_say_nothing_of_the_rest(tmp_path):
    row = {"text": TEXT, "_input_hash": 1, "_is_binary": True, "_view_id": "ner"}
    rows = [
        {**row, "spans": [{"start": 0, "end": 5, "label": "ORG"}], "answer": "accept"},
        {**row, "spans": [{"start": 19, "end": 23, "label": "ORG"}], "answer": "reject"},
        {**row, "spans": [{"start": 11, "end": 15, "label": "ORG"}], "answer": "accept"},
    ]
    (record,), report = read(tmp_path / "a.jsonl", rows)
    assert found(record) == [("Apple", "ORG"), ("Uber", "ORG")] and not record.entities_complete
    assert report.counts["rows left out because the annotator rejected them"] == 1
    (doc,) = mtl.read(tmp_path / "a.jsonl")
    assert [token.ent_iob_ for token in doc] == ["B", "", "B", "", "", ""]  # not annotated elsewhere


def test_a_label_that_prodigy_did_not_ask_about_is_not_annotated(tmp_path):
    rows = [
        {"text": "a b", "label": "BUSINESS", "answer": "accept", "_view_id": "classification"},
        {"text": "a b", "label": "TECH", "answer": "reject", "_view_id": "classification"},
        {"text": "c d", "label": "TECH", "answer": "accept", "_view_id": "classification", "score": 0.7},
    ]
    first, second = read(tmp_path / "a.jsonl", rows).records
    assert (first.cats, second.cats) == ({"BUSINESS": 1.0, "TECH": 0.0}, {"TECH": 1.0})
    assert second.number is None  # the score is the model's
    assert [doc.cats for doc in mtl.read(tmp_path / "a.jsonl")] == [{"BUSINESS": 1.0, "TECH": 0.0}, {"TECH": 1.0}]


def test_an_accepted_row_of_prodigy_without_spans_has_none(tmp_path):
    spans = [{"start": 0, "end": 5, "label": "ORG"}]
    rows = [{"text": TEXT, "spans": spans, "answer": "accept", "_view_id": "ner_manual"}]
    rows += [{"text": "No.", "answer": "accept", "_view_id": "ner_manual", "tokens": []}]
    rows += [{"text": "Nor.", "spans": None, "answer": "accept", "_view_id": "ner_manual"}]
    records, report = read(tmp_path / "a.jsonl", rows)
    assert [found(record) for record in records] == [[("Apple", "ORG")], [], []] and report.format == "Prodigy"
    assert not any("not read" in what for what in report.counts)


# Label Studio: fields


def task(text, *results, **more):
    return {"id": 1, "data": {"text": text}, "annotations": [{"id": 1, "result": list(results), "was_cancelled": False}], **more}


def choice(field, *choices, **value):
    return {"from_name": field, "type": "choices", "value": {"choices": list(choices), **value}, **({"id": "r"} if value else {})}


def span(start, end, label, **more):
    return {"from_name": "label", "type": "labels", "id": "r", "value": {"start": start, "end": end, "labels": [label], **more}}


def test_a_field_without_a_choice_is_not_annotated(tmp_path):
    rows = [task("a", choice("topic", "Tech"), choice("mood", "good")), task("b", choice("mood", "bad")), task("c")]
    first, second, third = read(tmp_path / "a.json", rows).records
    assert first.cats == {"Tech": 1.0, "good": 1.0, "bad": 0.0} and second.cats == {"good": 0.0, "bad": 1.0}
    assert third.cats == {"Tech": 0.0, "good": 0.0, "bad": 0.0}  # annotated, and nothing chosen


def test_an_empty_result_means_no_category_or_no_entity(tmp_path):
    records, _ = read(tmp_path / "a.json", [task("a", choice("topic", "Tech")), task("b")])
    assert held(records[1]) == set() and records[1].entities is None
    records, _ = read(tmp_path / "b.json", [task(TEXT, span(*APPLE, "ORG")), task("b")])
    assert records[1].cats is None and records[1].entities == []


@pytest.mark.parametrize("reverse", [False, True])
def test_the_choice_of_a_region_is_an_attribute_of_its_entity(tmp_path, reverse):
    results = [span(*APPLE, "ORG"), choice("status", "certain", start=0, end=5)]
    (record,), _ = read(tmp_path / "a.json", [task(TEXT, *(reversed(results) if reverse else results))])
    assert found(record) == [("Apple", "ORG")] and record.entities[0].attributes == {"status": "certain"}


def test_label_studio_taxonomies_ratings_ground_truth_and_other_keys(tmp_path):
    taxonomy = {"from_name": "t", "type": "taxonomy", "value": {"taxonomy": [["Business", "M&A"], ["Other"]]}}
    assert held(read(tmp_path / "a.json", [task("a", taxonomy)]).records[0]) == {"Business/M&A", "Other"}
    minimal = {"text": "a", "id": 1, "annotation_id": 1, "lead_time": 1.0}
    records, _ = read(tmp_path / "b.json", [{**minimal, "t": [{"taxonomy": [["A"]]}], "stars": [{"rating": 4}]}])
    assert held(records[0]) == {"A"} and records[0].number == 4
    records, _ = read(tmp_path / "c.json", [{**minimal, "kind": "A"}, {**minimal, "text": "b", "kind": {"choices": ["A", "B"]}}])
    assert [held(record) for record in records] == [{"A"}, {"A", "B"}]
    two = task(TEXT, span(*OSLO, "LOC"))
    two["annotations"].insert(0, {"ground_truth": True, "result": [span(*APPLE, "ORG")]})
    assert found(read(tmp_path / "d.json", [two]).records[0]) == [("Apple", "ORG")]
    other = {**task("", choice("topic", "Tech")), "data": {"doc": "7", "title": "x", "body": "The body."}}
    with pytest.raises(UserError, match=r"'doc', 'title', 'body'\. Name it: --column text=NAME"):
        read(tmp_path / "e.json", [other])
    assert read(tmp_path / "e.json", [other], columns={"text": "body"}).records[0].text == "The body."


def test_label_studios_csv_holds_json(tmp_path):
    cell = json.dumps([{"start": 0, "end": 5, "text": "Apple", "labels": ["ORG"]}]).replace('"', '""')
    rows = f'text,id,label,annotator,annotation_id,lead_time\n{TEXT},0,"{cell}",1,1,1.5\nNo.,1,,1,2,1.0\n'
    records, report = read(tmp_path / "a.csv", rows)
    assert [found(record) for record in records] == [[("Apple", "ORG")], []] and report.format == "Label Studio"


# Rows of other tools


@pytest.mark.parametrize(
    "entity",
    [
        {"start": 0, "end": 5, "label": "ORG"},
        {"start": 0, "end": 5, "type": "ORG", "text": "Apple"},
        {"start_char": 0, "end_char": 5, "label": "ORG"},
        {"start": 0, "end": 5, "entity_group": "ORG", "word": "Apple"},
        {"start": 0, "end": 5, "value": "Apple", "entity": "ORG"},
        {"BeginOffset": 0, "EndOffset": 5, "Type": "ORG", "Text": "Apple"},
        {"offset": 0, "length": 5, "category": "ORG"},
        {"startOffset": 0, "endOffset": 5, "label": ["ORG"]},
        [0, 5, "ORG"],
        ["ORG", 0, 5],
    ],
)
def test_an_entity_is_known_under_its_usual_names(tmp_path, entity):
    for key in ("entities", "spans", "ents", "annotations"):
        (record,), _ = read(tmp_path / "a.jsonl", [{"text": TEXT, key: [entity]}])
        assert found(record) == [("Apple", "ORG")]


def test_the_text_of_an_entity_is_checked(tmp_path):
    row = {"text": TEXT, "entities": [{"start": 0, "end": 4, "label": "ORG", "text": "Apple"}]}
    with pytest.raises(UserError, match=r"line 1: the mention is 'Apple', but the text at 0:4 is 'Appl'.*--repair offsets"):
        read(tmp_path / "a.jsonl", [row])
    assert found(read(tmp_path / "a.jsonl", [row], repair=["offsets"]).records[0]) == [("Apple", "ORG")]


WORDS = ["Apple", "buys", "New", "York"]
SPANS = [("Apple", "ORG"), ("New York", "LOC")]


@pytest.mark.parametrize(
    "row",
    [
        {"tokens": WORDS, "ner_tags": ["B-ORG", "O", "B-LOC", "I-LOC"]},
        {"words": WORDS, "labels": ["B-ORG", "O", "B-LOC", "I-LOC"]},
        {"tokenized_text": WORDS, "ner": [[0, 0, "ORG"], [2, 3, "LOC"]]},
        {"sentences": [WORDS[:2], WORDS[2:]], "ner": [[[0, 0, "ORG"]], [[2, 3, "LOC"]]], "doc_key": "d"},
        {"tokens": WORDS, "entities": [{"type": "ORG", "start": 0, "end": 1}, {"type": "LOC", "start": 2, "end": 4}]},
        {"tokens": json.dumps(WORDS), "ner_tags": "['B-ORG', 'O', 'B-LOC', 'I-LOC']"},
    ],
    ids=["Hugging Face", "words", "GLiNER", "SciERC", "SpERT", "lists in a table"],
)
def test_tokens_with_tags_or_spans(tmp_path, row):
    if isinstance(row.get("tokens"), str):
        cells = ",".join('"' + value.replace('"', '""') + '"' for value in row.values())
        (record,), report = read(tmp_path / "a.csv", ",".join(row) + "\n" + cells + "\n")
    else:
        (record,), report = read(tmp_path / "a.json", [row])
    assert found(record) == SPANS and report.format == "tokens and tags"


@pytest.mark.parametrize(
    "content",
    [
        {"data": [{"text": "a b", "label": "A"}, {"text": "c d", "label": "B"}]},
        {"rasa_nlu_data": {"common_examples": [{"text": "a b", "intent": "A"}, {"text": "c d", "intent": "B"}]}},
        {"text": {"0": "a b", "1": "c d"}, "label": {"0": "A", "1": "B"}},
        {"text": ["a b", "c d"], "label": ["A", "B"]},
        '{\n "text": "a b",\n "label": "A"\n}\n{\n "text": "c d",\n "label": "B"\n}',
        [{"Text": "a b", "Label": "A"}, {"Text": "c d", "Label": "B"}],
        [{"content": "a b", "category": "A"}, {"content": "c d", "category": "B"}],
    ],
    ids=["wrapped", "Rasa", "columns", "lists", "one after the other", "capitals", "other names"],
)
def test_rows_are_found_where_json_holds_them(tmp_path, content):
    records, _ = read(tmp_path / "a.json", content)
    assert [(record.text, held(record)) for record in records] == [("a b", {"A"}), ("c d", {"B"})]
    if not isinstance(content, str):
        (tmp_path / "b.json").write_text(json.dumps(content, indent=1))
        assert len(list(read_records(tmp_path / "b.json", Report()))) == 2


def test_what_stands_for_not_labelled_is_not_a_label(tmp_path):
    records, report = read(tmp_path / "a.jsonl", [{"text": "a", "label": -1}, {"text": "b", "label": 0}])
    assert records[0].cats is None and records[1].cats == {"0": 1.0} and sum(report.counts.values()) == 1
    records, report = read(tmp_path / "a.csv", "text,label\na,nan\nb,N/A\nc,None\nd,x\n")
    assert [held(record) for record in records] == [None, None, {"None"}, {"x"}]
    assert sum("read as not annotated" in what for what in report.counts) == report.counts["rows without an annotation"] == 2


QUESTION = {"context": TEXT, "question": "Who?"}


@pytest.mark.parametrize(
    "answer",
    [
        {"answer": "Uber"},
        {"answer": {"text": "Uber", "start": 11}},
        {"answers": ["Uber"]},
        {"answers": {"text": ["Uber"], "answer_start": [11]}},
        {"answer": "Uber", "answer_start": 11},
    ],
)
def test_answers_of_other_forms(tmp_path, answer):
    (record,), _ = read(tmp_path / "a.jsonl", [{**QUESTION, **answer}])
    assert [(a.start, a.text) for a in record.questions[0].answers] == [(11, "Uber")]
    (record,), _ = read(tmp_path / "a.jsonl", [{**QUESTION, "answer": None}])
    assert record.questions[0].answers == []
    with pytest.raises(UserError, match="the answer 'Google' is not in the text"):
        read(tmp_path / "a.jsonl", [{**QUESTION, "answer": "Google"}])


SMALL = {
    "fasttext": ("__label__A __label__B a b\n", {"A", "B"}, None),
    "dataturks": ({"content": TEXT, "extras": None, "annotation": [
        {"label": ["ORG"], "points": [{"start": 0, "end": 4, "text": "Apple"}]}]}, None, [("Apple", "ORG")]),
    "lighttag": ({"examples": [{"example_id": "1", "content": TEXT, "classifications": [{"classname": "A"}], "annotations": [
        {"start": 0, "end": 5, "tag": "ORG", "value": "Apple"}, {"start": 6, "end": 10, "tag": "ORG", "correct": False}]}]},
        {"A"}, [("Apple", "ORG")]),
    "sagemaker": ({"source": TEXT, "job": {"annotations": {"entities": [{"startOffset": 0, "endOffset": 5, "label": "ORG"}]}},
        "job-metadata": {"type": "groundtruth/text-span"}, "kind": 0, "kind-metadata": {"class-name": "A"}},
        {"A"}, [("Apple", "ORG")]),
    "spacy-json": ({"classes": ["ORG"], "annotations": [[TEXT, {"entities": [[0, 5, "ORG"]]}], None]}, None, [("Apple", "ORG")]),
    "bioc": ({"PubTator3": [{"id": "1", "passages": [{"offset": 0, "sentences": [{"offset": 0, "text": TEXT, "annotations": [
        {"infons": {"type": "ORG"}, "text": "Apple", "locations": [{"offset": 0, "length": 5}]}]}]}]}]}, None,
        [("Apple", "ORG")]),
}  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_small_formats(tmp_path, name):
    content, cats, entities = SMALL[name]
    (record,), report = read(tmp_path / "a.json", content)
    assert held(record) == cats and found(record) == entities, report.format


# CoNLL: where the columns are

IOB = [("Apple", "ORG"), ("Oslo", "LOC")]


@pytest.mark.parametrize(
    "content",
    [
        "Apple NNP B-NP B-ORG\nin IN O O\nOslo NNP B-NP B-LOC\n",
        "B-ORG\tApple\nO\tin\nB-LOC\tOslo\n",
        "1\tApple\tB-ORG\tO\n2\tin\tO\tO\n3\tOslo\tB-LOC\tB-LOC\n",
        "# id 7\nApple _ _ B-ORG\nin _ _ O\nOslo _ _ B-LOC\n",
        "bc/0001\t0\t0\tApple\tNN\tB-ORG\nbc/0001\t0\t1\tin\tIN\tO\nbc/0001\t0\t2\tOslo\tNN\tB-LOC\nbc/0001\t0\t3\t.\t.\tO\n",
        "###MEDLINE:1\n\nApple\tB-ORG\nin\tO\nOslo\tB-LOC\n",
        "en:Apple\tB-ORG\nen:in\tO\nen:Oslo\tB-LOC\n",
        "1\tApple\tB-ORG\t-\tann1\n2\tin\tO\t-\tann1\n3\tOslo\tB-LOC\t-\tann1\n",
    ],
    ids=["CoNLL-2003", "tag first", "GermEval", "MultiCoNER", "OntoNotes", "GENIA", "WikiAnn", "Universal NER"],
)
def test_the_columns_of_conll_are_found(tmp_path, content):
    (record,), report = read(tmp_path / "a.txt", content)
    assert found(record) == IOB and report.format == "CoNLL"


def test_a_column_that_holds_no_tags_is_refused(tmp_path):
    content = "\n".join(f"word{i} x type{i}" for i in range(100))
    with pytest.raises(UserError, match=r"the tags, such as 'type0'.*--column tag=2"):
        read(tmp_path / "a.txt", content, format="conll")
    with pytest.raises(UserError, match="--column tag=Word: give the number of the column"):
        read(tmp_path / "a.txt", "a B-X\n", columns={"tag": "Word"})
    with pytest.raises(UserError, match="--column text=Word: no file has 'Word'"):  # which may be a column of another file
        mtl.read(tmp_path / "a.txt", columns={"text": "Word"})


# Tables


def test_a_table_whose_columns_are_categories(tmp_path):
    content = "id,comment_text,toxic,threat\n1,You are very bad.,1,0\n2,You are very nice.,0,0\n3,I will get you.,1,1\n"
    records, report = read(tmp_path / "a.csv", content)
    assert [record.cats for record in records][2] == {"toxic": 1.0, "threat": 1.0} and held(records[1]) == set()
    assert any("category 'toxic', category 'threat'" in note for note in report.notes)


def test_a_table_whose_rows_are_entities(tmp_path):
    content = f"text,start,end,label\n{TEXT},0,5,ORG\n{TEXT},11,15,ORG\nNothing.,,,\n"
    records, _ = read(tmp_path / "a.csv", content)
    assert [found(record) for record in records] == [[("Apple", "ORG"), ("Uber", "ORG")], []]


def test_a_table_whose_rows_are_tokens(tmp_path):
    content = "Sentence #,Word,POS,Tag\nSentence: 1,Apple,NNP,B-ORG\n,in,IN,O\n,Oslo,NNP,B-LOC\nSentence: 2,No,UH,O\n"
    records, report = read(tmp_path / "a.csv", content)
    assert [found(record) for record in records] == [IOB, []] and report.format == "table of tokens"


@pytest.mark.parametrize("cell", ["['a', 'b']", '["a", "b"]', "a|b", "a;b", "a#b", "a, b"])
def test_several_categories_in_a_cell(tmp_path, cell):
    cell = cell.replace('"', '""')
    (record, empty), _ = read(tmp_path / "a.csv", f'text,labels\nx,"{cell}"\ny,[]\n')
    assert held(record) == {"a", "b"} and held(empty) == set()


@pytest.mark.parametrize(
    "content,columns",
    [
        (",text,label\n0,a b,A\n", {}),
        ("sep=;\ntext;label\na b;A\n", {}),
        ("a b,A\n", {"header": "none", "text": "1", "label": "2"}),
        ("Export of May,\ntext,label\na b,A\n", {"header": "2"}),
    ],
    ids=["pandas", "Excel", "no header", "a title"],
)
def test_where_a_table_has_its_names(tmp_path, content, columns):
    (record,), _ = read(tmp_path / "a.csv", content, columns=columns)
    assert record.text == "a b" and held(record) == {"A"}


def test_sheets_of_excel(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["About this file"])
    book.create_sheet("Data")
    for row in (["text", "label"], [12345, "A"], ["b", "B"]):
        book["Data"].append(row)
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(UserError, match=r"several sheets have rows: 'Sheet', 'Data'. Name one: --column sheet="):
        list(read_records(tmp_path / "a.xlsx", Report()))
    records = list(read_records(tmp_path / "a.xlsx", Report(), make_reading(columns={"sheet": "Data"})))
    assert [record.text for record in records] == ["12345", "b"]


# Entities that overlap


def test_entities_that_overlap_are_kept_for_spancat(tmp_path):
    text = "University of Oslo"
    rows = [{"text": text, "entities": [[0, 18, "ORG"], [14, 18, "LOC"]]}, {"text": TEXT, "entities": [[19, 23, "LOC"]]}]
    reports = mtl.convert({"train": write(tmp_path, rows)}, tmp_path / "out")
    assert reports["train"].counts["entities that overlap another, which are in doc.spans['sc'] alone"] == 1
    first, second = mtl.read(tmp_path / "out" / "train.spacy")
    assert [ent.text for ent in first.ents] == [text]
    assert [(s.text, s.label_) for s in first.spans["sc"]] == [(text, "ORG"), ("Oslo", "LOC")]
    assert [s.text for s in second.spans["sc"]] == ["Oslo"]  # complete, so that spancat can learn from it
    again = list(read_records(tmp_path / "out" / "train.spacy", Report()))
    assert found(again[0]) == [(text, "ORG"), ("Oslo", "LOC")]
    nlp = spacy.blank("en")
    nlp.add_pipe("spancat")
    nlp.initialize(lambda: [spacy.training.Example(nlp.make_doc(doc.text), doc) for doc in (first, second)])
    assert set(nlp.get_pipe("spancat").labels) == {"ORG", "LOC"}


def test_entities_that_do_not_overlap_have_no_spans(tmp_path):
    mtl.convert({"train": write(tmp_path, [{"text": TEXT, "entities": [[19, 23, "LOC"]]}])}, tmp_path / "out")
    assert "sc" not in mtl.read(tmp_path / "out" / "train.spacy")[0].spans


def write(folder, rows):
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "train.jsonl"


def test_a_sequence_to_sequence_project_is_refused(tmp_path):
    rows = [{"id": i, "text": f"Text {i}", "label": [f"Dies ist eine Übersetzung des Textes Nummer {i}."]} for i in range(3)]
    with pytest.raises(UserError, match=r"the labels are texts.*sequence-to-sequence"):
        read(tmp_path / "a.jsonl", rows)


def test_convert_takes_what_read_takes(tmp_path):
    (tmp_path / "a.csv").write_text("a b;A\nc d;B\n")
    columns = {"header": "none", "text": "1", "label": "2"}
    convert_splits(
        {"train": tmp_path / "a.csv"}, {"train": tmp_path / "out" / "train.spacy"}, reading=make_reading(columns=columns)
    )
    assert [doc.text for doc in mtl.read(tmp_path / "out")] == ["a b", "c d"]


# Round trips of formats that are written here by their definition


def spans_of(text, offsets):
    return [{"start": start, "end": end, "label": label, "text": text[start:end]} for start, end, label in offsets]


def webanno(words, entities):
    """A file of one sentence."""
    lines, position = ["#FORMAT=WebAnno TSV 3.3", "#T_SP=webanno.custom.Thing|kind", "", ""], 0
    marks = ["_"] * len(words)
    for number, (first, last, label) in enumerate(entities, start=1):
        escaped = "".join("\\" + c if c in "[]|_;\\>*" else c for c in label)
        marks[first:last] = [f"{escaped}[{number}]"] * (last - first)
    for i, (word, mark) in enumerate(zip(words, marks), start=1):
        size = len(word.encode("utf-16-le")) // 2
        lines.append(f"1-{i}\t{position}-{position + size}\t{word}\t{mark}")
        position += size + 1
    return "\n".join(lines)


def conllu(words, entities):
    rows = zip(words, as_tags(words, entities))
    return "\n".join(f"{i}\t{word}" + "\t_" * 7 + f"\tNER={tag}" for i, (word, tag) in enumerate(rows, start=1)) + "\n"


def table(rows):
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()


BY_DOCUMENT = {
    "webanno": ("a.tsv", lambda w, t, o, e: webanno(w, e)),
    "conllu": ("a.conllu", lambda w, t, o, e: conllu(w, e)),
    "pubtator": ("a.txt", lambda w, t, o, e: f"1|t|{t}\n" + "".join(f"1\t{s}\t{x}\t{t[s:x]}\t{n}\n" for s, x, n in o)),
    "span-table": ("a.csv", lambda w, t, o, e: table(
        [("text", "start", "end", "label"), *((t, s, x, n) for s, x, n in o), *([(t, "", "", "")] if not o else [])])),
    "token-table": ("a.csv", lambda w, t, o, e: table(
        [("sentence", "word", "tag"), *((1, word, tag) for word, tag in zip(w, as_tags(w, e)))])),
    "prodigy": ("a.jsonl", lambda w, t, o, e: [{"text": t, "spans": spans_of(t, o), "answer": "accept", "_input_hash": 1}]),
    "dataturks": ("a.jsonl", lambda w, t, o, e: [{"content": t, "extras": None, "annotation": [
        {"label": [n], "points": [{"start": s, "end": x - 1, "text": t[s:x]}]} for s, x, n in o]}]),
    "lighttag": ("a.jsonl", lambda w, t, o, e: [{"example_id": "1", "content": t, "annotations": [
        {"start": s, "end": x, "tag": n, "value": t[s:x]} for s, x, n in o]}]),
    "sagemaker": ("a.jsonl", lambda w, t, o, e: [{"source": t, "job-metadata": {}, "job": {"annotations": {"entities": [
        {"startOffset": s, "endOffset": x, "label": n} for s, x, n in o]}}}]),
    "tokens": ("a.jsonl", lambda w, t, o, e: [
        {"tokenized_text": w, "ner": [[first, last - 1, n] for first, last, n in e]}]),
}  # fmt: skip


@pytest.mark.parametrize("format", BY_DOCUMENT)
@settings(deadline=None, max_examples=30)
@given(annotated())
def test_entities_come_back_from_every_format(tmp_path_factory, format, doc):
    _, text, offsets, _ = doc
    name, write_document = BY_DOCUMENT[format]
    (record,), _ = read(tmp_path_factory.mktemp("f") / name, write_document(*doc), format=format)
    assert record.text == text and [(e.start, e.end, e.label) for e in record.entities] == offsets


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_of_a_format_is_recognised_and_annotated(tmp_path, name):
    """What `mtl formats NAME` and the page of the format show."""
    example = EXAMPLES[name]
    if not example.content:
        return
    (tmp_path / "note.txt").write_text("The fuel pump had seized.")
    records, report = read(
        tmp_path / example.file, example.content, columns={"text": "Body", "label": "Queue"} if name == "table" else {}
    )
    assert report.format == FORMATS[name].title
    assert any(record.entities or record.cats or record.questions for record in records)
    shown = CliRunner().invoke(app, ["formats", name]).output
    assert example.file in shown and example.reads[0] in shown and name in CliRunner().invoke(app, ["formats"]).output
