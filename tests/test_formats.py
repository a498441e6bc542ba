"""Exports of annotation tools: each format is recognised by content, read as it is meant, and refused where it makes no sense."""

import csv
import json

import pytest
import spacy
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import DocBin
from typer.testing import CliRunner

from mtl.cli.app import app
from mtl.data.docs import record_to_doc
from mtl.data.formats.detect import FORMATS, detect_format, read_records
from mtl.data.formats.mentions import characters_of_utf16
from mtl.data.formats.reading import Reading
from mtl.data.formats.source import Source
from mtl.data.records import Report
from mtl.errors import UserError

NLP = spacy.blank("en")
TEXT = "The 🔧 fuel pump failed in Oslo."
PUMP, OSLO = (6, 15), (26, 30)


def write(path, content):
    """A file of text, JSON Lines (a list of rows), or JSON (anything else)."""
    if isinstance(content, list) and path.suffix == ".jsonl":
        content = "\n".join(map(json.dumps, content))
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def read(path, format="auto", **columns):
    report = Report()
    return list(read_records(path, report, Reading(format, columns))), report


def found(record):
    """What is annotated, by text."""
    return [(record.text[e.start : e.end], e.label) for e in record.entities] if record.entities is not None else None


# One export each: name of the format, file name, content, entities of the first document, its categories


def utf16(position):
    return len(TEXT[:position].encode("utf-16-le")) // 2


LABEL_STUDIO = {
    "id": 1,
    "data": {"text": TEXT},
    "annotations": [
        {"id": 1, "was_cancelled": True, "result": []},
        {"id": 2, "was_cancelled": False, "result": [
            {"from_name": "label", "to_name": "text", "type": "labels",
             "value": {"start": utf16(6), "end": utf16(15), "text": "fuel pump", "labels": ["PART"]}},
            {"from_name": "label", "to_name": "text", "type": "labels",
             "value": {"start": utf16(26), "end": utf16(30), "text": "Oslo", "labels": ["LOC"]}},
            {"from_name": "kind", "to_name": "text", "type": "choices", "value": {"choices": ["WEAR"]}},
            {"type": "relation", "from_id": "a", "to_id": "b"},
        ]},
    ],
}  # fmt: skip
MIN = {
    "text": TEXT, "id": 1, "kind": {"choices": ["WEAR"]}, "annotator": 1, "annotation_id": 2, "lead_time": 3.5,
    "label": [{"start": utf16(6), "end": utf16(15), "text": "fuel pump", "labels": ["PART"]},
              {"start": utf16(26), "end": utf16(30), "text": "Oslo", "labels": ["LOC"]}],
}  # fmt: skip
BOTH = [("fuel pump", "PART"), ("Oslo", "LOC")]
TRIPLES = [[*PUMP, "PART"], [*OSLO, "LOC"]]
BIOC = {
    "source": "x", "documents": [{"id": "d1", "passages": [
        {"offset": 0, "text": "Title.", "annotations": []},
        {"offset": 7, "text": TEXT, "annotations": [
            {"id": "1", "infons": {"type": "PART"}, "text": "fuel pump", "locations": [{"offset": 13, "length": 9}]},
            {"id": "2", "infons": {"type": "LOC"}, "text": "Oslo", "locations": [{"offset": 33, "length": 4}]},
        ]},
    ]}],
}  # fmt: skip
BIOC_XML = f"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE collection SYSTEM "BioC.dtd">
<collection><source>x</source><document><id>d1</id>
<passage><offset>0</offset><text>{TEXT}</text>
<annotation id="1"><infon key="type">PART</infon><location offset="6" length="9"/><text>fuel pump</text></annotation>
<annotation id="2"><infon key="type">LOC</infon><location offset="26" length="4"/><text>Oslo</text></annotation>
</passage></document></collection>"""
SPACY_JSON = [{"id": 0, "paragraphs": [{"raw": TEXT, "cats": [{"label": "WEAR", "value": 1.0}], "sentences": [{"tokens": [
    {"id": i, "orth": word, "ner": tag} for i, (word, tag) in enumerate(zip(
        ["The", "🔧", "fuel", "pump", "failed", "in", "Oslo", "."], ["O", "O", "B-PART", "L-PART", "O", "O", "U-LOC", "O"]))
]}]}]}]  # fmt: skip
TOKENS = {"tokens": ["The", "fuel", "pump", "in", "Oslo"], "ner_tags": ["O", "B-PART", "I-PART", "O", "B-LOC"]}
WEAR = {"WEAR": 1.0}
EXPORTS = {
    "Label Studio, full": ("label-studio", "a.json", [LABEL_STUDIO], BOTH, WEAR),
    "Label Studio, full, by line": ("label-studio", "a.jsonl", [LABEL_STUDIO], BOTH, WEAR),
    "Label Studio, MIN": ("label-studio", "a.json", [MIN], BOTH, WEAR),
    "Doccano, sequence labelling": ("doccano", "a.jsonl", [{"id": 1, "text": TEXT, "label": TRIPLES}], BOTH, None),
    "Doccano, with data and labels": ("doccano", "a.jsonl", [{"id": 1, "data": TEXT, "labels": TRIPLES}], BOTH, None),
    "Doccano, relations": ("doccano", "a.jsonl", [{"id": 1, "text": TEXT, "relations": [{"id": 0}], "entities": [
        {"id": 0, "label": "PART", "start_offset": 6, "end_offset": 15},
        {"id": 1, "label": "LOC", "start_offset": 26, "end_offset": 30}]}], BOTH, None),
    "Doccano, classification": ("doccano", "a.json", [{"id": 1, "text": TEXT, "label": ["WEAR"]}], None, WEAR),
    "spaCy v2, tuples": ("spacy-json", "a.json", [[TEXT, {"entities": TRIPLES, "cats": WEAR}]], BOTH, WEAR),
    "spaCy v2, tuples by line": ("spacy-json", "a.jsonl", [[TEXT, {"entities": TRIPLES}], [TEXT, {"entities": []}]], BOTH, None),
    "spaCy v2, JSON": ("spacy-json", "a.json", SPACY_JSON, BOTH, WEAR),
    "BioC JSON": ("bioc", "a.json", BIOC, BOTH, None),
    "BioC XML": ("bioc-xml", "a.xml", BIOC_XML, BOTH, None),
    "tokens and tags": ("tokens", "a.jsonl", [TOKENS], [("fuel pump", "PART"), ("Oslo", "LOC")], None),
    "our rows in an array": ("jsonl", "a.json", [{"text": TEXT, "label": "WEAR", "spans": TRIPLES}], BOTH, WEAR),
    "our row alone": ("jsonl", "a.json", {"text": TEXT, "label": "WEAR", "spans": TRIPLES}, BOTH, WEAR),
    "Prodigy": ("prodigy", "a.jsonl", [{"text": TEXT, "_input_hash": 1, "answer": "accept", "tokens": [{"text": "The"}],
        "spans": [{"start": 6, "end": 15, "label": "PART", "token_start": 2}, {"start": 26, "end": 30, "label": "LOC"}]}],
        BOTH, None),
    "Prodigy, choice": ("prodigy", "a.jsonl", [{"text": TEXT, "answer": "accept", "accept": ["WEAR"], "options": [
        {"id": "WEAR", "text": "worn"}, {"id": "FOD", "text": "foreign object"}]}], None, {"WEAR": 1.0, "FOD": 0.0}),
    "CSV": ("table", "a.csv", f'text,label\n"{TEXT}",WEAR\n', None, WEAR),
    "CSV with semicolons": ("table", "a.csv", f"Text;Category\n{TEXT};WEAR\n", None, WEAR),
    "TSV": ("table", "a.tsv", f"label\tsentence\nWEAR\t{TEXT}\n", None, WEAR),
    "IO tags": ("conll", "a.conll", "fuel PART\npump PART\nin O\nOslo LOC\n", BOTH, None),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_is_recognised_and_read(tmp_path, name):
    format, file, content, entities, cats = EXPORTS[name]
    path = write(tmp_path / file, content)
    if name == "IO tags":  # nothing tells such a file from any other table
        records, _ = read(path, "conll")
    else:
        assert detect_format(Source(path)) == format
        records, report = read(path)
        assert report.format == FORMATS[format].title
    assert found(records[0]) == entities and records[0].cats == cats
    record_to_doc(records[0], NLP, Report())


def test_a_file_keeps_its_format_whatever_it_is_called(tmp_path):
    for format, file, content, *_ in EXPORTS.values():
        if format not in ("table", "conll"):
            path = write(tmp_path / f"x{'.jsonl' if file.endswith('l') else '.json'}", content)
            assert detect_format(Source(path.rename(tmp_path / "x.dat"))) == format


def test_what_is_left_out_of_label_studio_is_counted(tmp_path):
    other = {"id": 2, "data": {"text": "Nothing."}, "annotations": [{"result": [], "was_cancelled": False}]}
    nobody = {"id": 3, "data": {"text": "Later."}, "annotations": []}
    records, report = read(write(tmp_path / "a.json", [LABEL_STUDIO, other, nobody]))
    assert [record.text for record in records] == [TEXT, "Nothing."] and records[1].entities == []
    assert report.counts["tasks left out because nobody has annotated them"] == 1
    assert report.counts["offsets in UTF-16 units, converted"] == 2 and report.counts["relations left out"] == 1
    unknown = {"data": {"text": "x"}, "annotations": [{"result": [{"type": "rectangle", "value": {"x": 1, "y": 2}}]}]}
    (record,), report = read(write(tmp_path / "unknown.json", [unknown]))
    assert record.entities is None and report.counts == {"results of another kind left out (x, y)": 1}  # not "none was found"
    with pytest.raises(UserError, match="a Label Studio export without results: nobody has annotated"):
        read(write(tmp_path / "b.json", [nobody]))
    with pytest.raises(UserError, match="item 1: this is a Label Studio export without results: its tasks have no"):
        read(write(tmp_path / "c.json", [{"id": 1, "data": {"text": "x"}}]))
    wrong = json.loads(json.dumps(LABEL_STUDIO).replace("fuel pump", "fuel pomp", 2).replace("fuel pomp", "fuel pump", 1))
    with pytest.raises(UserError, match="the mention is 'fuel pomp'"):
        read(write(tmp_path / "d.json", [wrong]))


@given(st.text(max_size=30), st.integers(0, 30))
def test_utf16_units_are_the_characters_they_stand_for(text, position):
    position = min(position, len(text))
    try:
        units = len(text[:position].encode("utf-16-le")) // 2
    except UnicodeEncodeError:
        return
    assert characters_of_utf16(text, units) == position
    assert characters_of_utf16(text, len(text.encode("utf-16-le")) // 2 + 3) == len(text) + 3


def test_an_empty_label_of_doccanos_means_what_the_others_of_its_file_do(tmp_path):
    spans, _ = read(write(tmp_path / "a.jsonl", [{"text": "a", "label": []}, {"text": TEXT, "label": TRIPLES}]))
    assert spans[0].entities == [] and spans[0].cats is None
    categories, _ = read(write(tmp_path / "b.jsonl", [{"text": "a", "label": ["X"]}, {"text": "b", "label": []}]))
    assert categories[1].cats == {} and categories[1].entities is None


BRAT = (
    "T1\tPART 6 15\tfuel pump\nT2\tLOC 26 30\tOslo\nA1\tNegated T1\nA2\tGrade T2 high\nR1\tIn Arg1:T1 Arg2:T2\n#1\tNote T1\tx\n"
)


def test_brat_folders_and_files_are_read(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.txt").write_text(TEXT, encoding="utf-8")
        (tmp_path / f"{name}.ann").write_text(BRAT, encoding="utf-8")
    (tmp_path / "alone.txt").write_text("no annotation")
    records, report = read(tmp_path)
    assert detect_format(Source(tmp_path)) == "brat" and len(records) == 2 and found(records[0]) == BOTH
    assert [entity.attributes for entity in records[0].entities] == [{"Negated": True}, {"Grade": "high"}]
    assert report.counts == {"texts left out because they have no .ann file": 1, "relations left out": 2, "notes left out": 2}
    for file in ("one.txt", "one.ann"):
        assert found(read(tmp_path / file)[0][0]) == BOTH
    (tmp_path / "one.ann").write_text("T1\tPART 0 3;6 15\tThe fuel pump\n")
    records, report = read(tmp_path / "one.ann")
    assert found(records[0]) == [(TEXT[:15], "PART")]
    assert report.counts["discontinuous mentions, read from their first to their last character"] == 1


@pytest.mark.parametrize(
    "line, message",
    [
        ("T1\tPART 6 15\tfuel pomp", "line 1: the mention is 'fuel pomp'"),
        ("T1\tPART six 15\tfuel", "line 1: not a line of brat's"),
        ("A1\tNegated", "line 1: not an attribute of brat's"),
    ],
)
def test_a_wrong_line_of_brats_is_named(tmp_path, line, message):
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "a.ann").write_text(line)
    with pytest.raises(UserError, match=message):
        read(tmp_path)
    (tmp_path / "a.txt").unlink()
    with pytest.raises(UserError, match=r"there is no a\.txt beside it"):
        read(tmp_path)


def test_docbin_files_are_read(tmp_path):
    doc = NLP(TEXT)
    doc.ents = [doc.char_span(*PUMP, label="PART")]
    doc.cats = {"WEAR": 1.0}
    doc.spans["sc"] = [doc.char_span(*OSLO, label="LOC")]
    DocBin(docs=[doc, NLP("x")], store_user_data=True).to_disk(tmp_path / "a.spacy")
    records, _ = read(tmp_path / "a.spacy")
    assert found(records[0]) == [("fuel pump", "PART")] and records[0].cats == WEAR
    assert records[1].entities is None and records[1].cats is None
    assert [record.text for record in read(tmp_path)[0]] == [TEXT, "x"]  # a folder of them


FLAT = {"id": "7", "title": "t", "context": "The pump.", "question": "What?", "answers": {"text": ["pump"], "answer_start": [4]}}
MRQA = [
    {"header": {"dataset": "x"}},
    {"id": "", "context": "The pump.", "qas": [{"qid": "q9", "question": "What?", "answers": ["pump"], "detected_answers": [
        {"text": "pump", "char_spans": [[4, 7]], "token_spans": [[1, 1]]}]}]},
]  # fmt: skip


@pytest.mark.parametrize("rows, name", [([FLAT], "7"), (MRQA, "q9"), ({"data": [FLAT]}, "7")])
def test_flat_squad_and_mrqa_are_questions(tmp_path, rows, name):
    path = write(tmp_path / ("a.jsonl" if isinstance(rows, list) else "a.json"), rows)
    assert detect_format(Source(path)) == "squad"
    (record,), _ = read(path)
    assert [(question.id, question.answers[0].text) for question in record.questions] == [(name, "pump")]


def test_data_sets_saved_as_parquet_keep_the_names_of_their_classes(tmp_path):
    tags = Sequence(ClassLabel(names=["O", "B-PART", "I-PART"]))
    tokens = Dataset.from_dict(
        {"tokens": [["fuel", "pump"], ["x"]], "ner_tags": [[1, 2], [0]]},
        Features(tokens=Sequence(Value("string")), ner_tags=tags),
    )
    tokens.to_parquet(tmp_path / "tokens.parquet")
    records, _ = read(tmp_path / "tokens.parquet")
    assert [found(record) for record in records] == [[("fuel pump", "PART")], []]
    labels = Features(text=Value("string"), label=ClassLabel(names=["ham", "spam"]))
    Dataset.from_dict({"text": ["a", "b"], "label": [1, -1]}, labels).to_parquet(tmp_path / "labels.parquet")
    records, _ = read(tmp_path / "labels.parquet")
    assert [record.cats for record in records] == [{"spam": 1.0}, None]  # -1: no label
    with pytest.raises(UserError, match="ner_tags are numbers, whose names are not in the file"):
        read(write(tmp_path / "a.jsonl", [{"tokens": ["a"], "ner_tags": [0]}]))


def test_columns_are_named_or_recognised_and_said(tmp_path):
    path = write(tmp_path / "a.csv", 'id,Body,urgent,legal,Grade\n1,"a, b",1,no,3\n2,,0,0,1\n3,c,0,yes,"2,5"\n')
    assert read(path)[0][0].cats == {"urgent": 1.0, "legal": 0.0}
    with pytest.raises(UserError, match=r"which column is the annotation\? There are 'id', 'Body'.*--column label=NAME"):
        read(write(tmp_path / "b.csv", "id,Body\n1,a\n"))
    records, report = read(path, **{"cats:urgent": "urgent", "cats:legal": "legal", "score": "Grade"})
    assert [(record.text, record.cats, record.number) for record in records] == [
        ("a, b", {"urgent": 1.0, "legal": 0.0}, 3.0), ("c", {"urgent": 0.0, "legal": 1.0}, 2.5)
    ]  # fmt: skip
    assert report.counts == {"rows left out because their text is empty": 1}
    assert "text = 'Body', score = 'Grade', category 'urgent', category 'legal'" in report.notes[0]
    named = write(tmp_path / "c.csv", "text,Queue,tags\nx,A,noise\n")
    assert [record.cats for record in read(named, label="Queue")[0]] == [{"A": 1.0}]  # usual names do not add to what is named
    several = write(tmp_path / "b.csv", "text,tags\nx,a|b\ny,\n")
    assert [record.cats for record in read(several)[0]] == [{"a": 1.0, "b": 1.0}, {}]


@pytest.mark.parametrize(
    "content, columns, message",
    [
        ("a,b\n1,2\n", {}, r"which column is the text\? There are 'a', 'b'"),
        ("text,label\nx,y\n", {"text": "Txt"}, r"line 2: --column text=Txt: there is no 'Txt'; there are 'text', 'label'"),
        ("text,label\nx,y,z\n", {}, "line 2: 3 cells, and 2 columns"),
        ("text,text\nx,y\n", {}, "line 1: this row has to name every column, each once"),
        ("Exports,\n,\ntext,label\nx,y\n", {}, "line 1: this row has to name every column"),
        ('text,label\n"x,y\n', {}, "quote cells"),
        ("text,urgent\nx,maybe\n", {"cats:urgent": "urgent"}, "line 2: the category 'urgent' has 'maybe'"),
        ("text,score\nx,high\n", {}, "line 2: 'high' is not a number"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path, content, columns, message):
    with pytest.raises(UserError, match=message):
        read(write(tmp_path / "a.csv", content), **columns)


def test_excel_files_are_tables(tmp_path):
    openpyxl = pytest.importorskip("openpyxl", reason="Excel files: pip install spacy-mtl[excel]")
    book = openpyxl.Workbook()
    for row in (["Text", "Label"], [TEXT, "WEAR"], ["other", None], [None, None]):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    records, _ = read(tmp_path / "a.xlsx")
    assert [(record.text, record.cats) for record in records] == [(TEXT, WEAR), ("other", None)]
    (tmp_path / "b.xlsx").write_bytes(b"PK\3\4 no archive")
    with pytest.raises(UserError, match="not an Excel file"):
        read(tmp_path / "b.xlsx")


def test_a_long_conll_document_is_cut_between_sentences(tmp_path):
    sentence = "pump B-PART\nfailed O\n" + "x O\n" * 98 + "\n"
    records, report = read(write(tmp_path / "a.conll", "-DOCSTART- O\n\n" + sentence * 25))
    assert [len(record.text.split()) for record in records] == [1000, 1000, 500]
    assert sum(len(record.entities) for record in records) == 25
    assert report.counts["documents of more than 1,000 tokens, cut between sentences"] == 1


def test_the_column_with_the_tags_can_be_named(tmp_path):
    path = write(tmp_path / "a.conll", "pump B-PART NN\nfailed O VB\n")
    assert found(read(path, "conll", tag="2")[0][0]) == [("pump", "PART")]
    with pytest.raises(UserError, match="--column tag=ner: give the number"):
        read(path, "conll", tag="ner")


# Round trips: written by the definition of the format, read back


@st.composite
def annotated(draw):
    """Words, and for each the label of the entity it belongs to or "", with entities that do not touch."""
    words = draw(st.lists(st.text("abcdé🔧ß.", min_size=1, max_size=5), min_size=1, max_size=12))
    labels, entities, start = [""] * len(words), [], 0
    while start < len(words):
        size = draw(st.integers(0, 3))
        if size and start + size <= len(words):
            entities.append((start, start + size, draw(st.sampled_from(["PART", "LOC"]))))
            labels[start : start + size] = [entities[-1][2]] * size
        start += size + 1
    text = " ".join(words)
    starts = [sum(len(word) + 1 for word in words[:i]) for i in range(len(words))]
    offsets = [(starts[first], starts[last - 1] + len(words[last - 1]), label) for first, last, label in entities]
    return words, text, offsets, entities


def as_tags(words, entities):
    tags = ["O"] * len(words)
    for first, last, label in entities:
        tags[first:last] = [f"{'B' if i == first else 'I'}-{label}" for i in range(first, last)]
    return tags


def units(text, position):
    return len(text[:position].encode("utf-16-le")) // 2


WRITERS = {
    "doccano": lambda w, t, o, e: {"text": t, "entities": [
        {"start_offset": s, "end_offset": x, "label": n} for s, x, n in o]},
    "label-studio": lambda w, t, o, e: {"data": {"text": t}, "annotations": [{"result": [
        {"value": {"start": units(t, s), "end": units(t, x), "text": t[s:x], "labels": [n]}} for s, x, n in o]}]},
    "spacy-json": lambda w, t, o, e: [t, {"entities": [list(one) for one in o]}],
    "jsonl": lambda w, t, o, e: {"text": t, "entities": [list(one) for one in o]},
    "tokens": lambda w, t, o, e: {"tokens": w, "ner_tags": as_tags(w, e)},
    "bioc": lambda w, t, o, e: {"passages": [{"offset": 0, "text": t, "annotations": [
        {"infons": {"type": n}, "text": t[s:x], "locations": [{"offset": s, "length": x - s}]} for s, x, n in o]}]},
}  # fmt: skip


@pytest.mark.parametrize("format", WRITERS)
@settings(deadline=None, max_examples=40)
@given(st.lists(annotated(), min_size=1, max_size=4))
def test_entities_come_back_as_they_were_written(tmp_path_factory, format, docs):
    path = write(tmp_path_factory.mktemp("f") / "a.jsonl", [WRITERS[format](*doc) for doc in docs])
    records, _ = read(path, format)
    assert [record.text for record in records] == [text for _, text, *_ in docs]
    assert [[(e.start, e.end, e.label) for e in record.entities] for record in records] == [offsets for *_, offsets, _ in docs]


@settings(deadline=None, max_examples=40)
@given(annotated())
def test_brat_comes_back_as_it_was_written(tmp_path_factory, doc):
    _, text, offsets, _ = doc
    folder = tmp_path_factory.mktemp("brat")
    (folder / "a.txt").write_text(text, encoding="utf-8")
    lines = [f"T{i}\t{label} {start} {end}\t{text[start:end]}" for i, (start, end, label) in enumerate(offsets)]
    (folder / "a.ann").write_text("\n".join(lines), encoding="utf-8")
    (record,), _ = read(folder)
    assert [(e.start, e.end, e.label) for e in record.entities] == offsets


CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('\n,;"\t'), min_size=1, max_size=20)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(CELL, st.sampled_from(["WEAR", "a b", "é"])), min_size=1, max_size=5))
def test_tables_come_back_as_they_were_written(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    records, _ = read(path)
    kept = [(text, {label: 1.0}) for text, label in rows if text.strip()]
    assert [(record.text, record.cats) for record in records] == kept


def test_the_command_says_the_format_and_the_columns(tmp_path):
    write(tmp_path / "a.csv", "Body,Type\nx y,A\nz,B\n")
    arguments = [
        "convert",
        str(tmp_path / "a.csv"),
        "--column",
        "text=Body",
        "--column",
        "label=Type",
        "--out",
        str(tmp_path / "o"),
    ]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0 and "a.csv (table) -> " in result.output
    assert "read text = 'Body', label = 'Type'" in result.output and "2 documents with categories" in result.output


@pytest.mark.parametrize(
    "given, message",
    [(["--column", "text"], "give KEY=NAME"), (["--column", "text=a", "--column", "text=b"], "'text' is given twice"),
     (["--format", "xml"], "--format")],
)  # fmt: skip
def test_wrong_options_are_named(tmp_path, given, message):
    write(tmp_path / "a.csv", "text,label\nx,A\n")
    with pytest.raises(UserError, match=message):
        app(["convert", str(tmp_path / "a.csv"), "--out", str(tmp_path / "o"), *given], standalone_mode=False)


def test_a_reader_of_another_package_is_tried_first(tmp_path, monkeypatch):
    from mtl.data.formats import detect
    from mtl.data.records import Record

    own = detect.Format("mine", lambda source: source.path.suffix == ".mine", lambda source, report: iter([Record("x", "here")]))
    point = type("Point", (), {"name": "mine", "load": staticmethod(lambda: own)})
    monkeypatch.setattr(detect, "entry_points", lambda group: [point] if group == "mtl_formats" else [])
    detect.all_formats.cache_clear()
    write(tmp_path / "a.mine", [{"text": "y"}])
    (record,), report = read(tmp_path / "a.mine")
    assert record.text == "x" and report.format == "mine"
    detect.all_formats.cache_clear()


def test_a_source_is_read_once_for_its_kind(tmp_path):
    assert Source(write(tmp_path / "a.json", {"text": "x"})).kind == "json"
    assert Source(write(tmp_path / "b.json", '\n\n{"text": "x"}\n')).kind == "json"
    assert Source(write(tmp_path / "c.txt", "The pump.")).kind == "text" and Source(tmp_path).kind == "folder"
