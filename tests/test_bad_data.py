"""What is wrong with a file is said, with its place; nothing is lost without a word, and nothing ends in a traceback."""

import copy
import io
import json
import random
import tarfile
import zipfile

import pytest
import spacy
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import DocBin
from typer.testing import CliRunner

import mtl
from mtl.cli.app import app
from mtl.data.check.fix import fix_data
from mtl.data.check.run import check_data
from mtl.data.docs import group_of, record_to_doc
from mtl.data.duplicates import NearDuplicates, normalized
from mtl.data.export import export_docs
from mtl.data.formats.detect import FORMATS, read_records
from mtl.data.formats.examples import EXAMPLES
from mtl.data.formats.reading import make_reading
from mtl.data.records import Entity, Record, Report
from mtl.data.split import split_files
from mtl.errors import UserError

NLP = spacy.blank("en")


def read(path, content=None, **options):
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    report = Report()
    return list(read_records(path, report, make_reading(**options))), report


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


# Every value of a wrong type, in every place


def places(value, path=()):
    """The paths to all values in a JSON value."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))


def changed(value, path, junk):
    if not path:
        return junk
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = junk
    return value


JUNK = [None, True, 0, -7, 1.5, 10**400, float("nan"), "", " ", "x", "0", [], [[]], [None], ["x"], {}, {"x": 1}, [[0, 1, "X"]]]
JSON_FORMATS = {
    name: list(map(json.loads, example.content.splitlines())) if example.file.endswith("jsonl") else json.loads(example.content)
    for name, example in EXAMPLES.items() if example.content.startswith(("{", "["))
}  # fmt: skip


@pytest.mark.parametrize("name", JSON_FORMATS)
@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_value_of_another_type_is_an_error_of_the_file(tmp_path_factory, name, data):
    value = JSON_FORMATS[name]
    path = data.draw(st.sampled_from(sorted(places(value), key=str)))
    file = tmp_path_factory.mktemp("f") / "a.json"
    file.write_text(json.dumps(changed(value, path, data.draw(st.sampled_from(JUNK)))))
    for format in (name, "auto"):
        try:
            for record in read(file, format=format)[0]:
                record_to_doc(record, NLP, Report())
        except UserError as error:
            assert "a.json" in str(error)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "content",
    [
        b"just some text\n", b"\x89PNG\r\n\x1a\n\0\0", b"\x80\x04\x95pickle", b'[{"text": "a", "label"', b"[" * 100_000,
        b"{" + b'"a":{' * 5000,
        b"", b"\n\n \n", b"PK\x03\x04broken", b"a,b\n1,2,3\n", b"<collection><document><passage>",
        b'{"text": ' + b"9" * 5000 + b"}",
        b"\xef\xbb\xbf", b"null\n", b"[]", b"{}", b"[1, 2]", b'"x"',
    ],
    ids=range(18),
)  # fmt: skip
def test_no_file_ends_in_a_traceback_whatever_format_is_named(tmp_path, format, content):
    for reading in (format, "auto"):
        try:
            read(tmp_path / "file.txt", content, format=reading)
        except UserError as error:
            assert "file." in str(error)


# Nothing is lost without a word


def test_groups_of_every_format_keep_documents_together(tmp_path):
    texts = [f"A text of its own, number {i * i}." for i in range(40)]
    files = {
        "own.jsonl": lines(*({"text": t, "label": "A", "group": i % 5} for i, t in enumerate(texts))),
        "doccano.jsonl": lines(*({"id": 1, "text": t, "label": [[0, 1, "X"]], "group": i % 5} for i, t in enumerate(texts))),
        "squad.jsonl": lines(*({"context": t, "question": "Q?", "answers": ["A"], "group": i % 5} for i, t in enumerate(texts))),
        "tokens.jsonl": lines(
            *({"tokens": t.split(), "ner_tags": ["O"] * len(t.split()), "group": i % 5} for i, t in enumerate(texts))
        ),
        "table.csv": "text,label,group\n" + "".join(f'"{t}",A,{i % 5}\n' for i, t in enumerate(texts)),
        "studio.json": json.dumps([{"data": {"text": t, "group": i % 5}, "annotations": [{"result": [
            {"from_name": "k", "value": {"choices": ["A"]}}]}]} for i, t in enumerate(texts)]),
    }  # fmt: skip
    for name, content in files.items():
        (tmp_path / name).write_text(content)
        split_files([tmp_path / name], tmp_path / "out", {"train": 0.6, "dev": 0.4})
        groups = [
            {group_of(doc) for doc in mtl.read(tmp_path / "out" / part / f"{name.split('.')[0]}.spacy")}
            for part in ("train", "dev")
        ]
        assert groups[0] | groups[1] == set("01234") and not groups[0] & groups[1], name


def test_check_finds_groups_in_converted_files(tmp_path):
    for split, count in (("train", 3), ("dev", 1)):
        (tmp_path / f"{split}.jsonl").write_text(
            lines(*({"text": f"{split} {i} words", "label": "A", "group": 0} for i in range(count)))
        )
    mtl.convert({name: tmp_path / f"{name}.jsonl" for name in ("train", "dev")}, tmp_path / "out")
    result = check_data({name: [tmp_path / "out" / f"{name}.spacy"] for name in ("train", "dev")})
    assert "group in two splits" in {finding["kind"] for finding in result["findings"]}


def test_what_reading_leaves_out_is_said_by_every_command(tmp_path):
    rows = [{"text": f"Pump {i} failed.", "entities": [[0, 4, "PART"], [0, 2, "X"]]} for i in range(20)]
    (tmp_path / "a.jsonl").write_text(lines(*rows))
    name = str(tmp_path / "a.jsonl")
    for arguments in (
        ["check", "--train", name],
        ["split", name, "--out", str(tmp_path / "parts")],
        ["export-data", name, "--to", "csv", "--out", str(tmp_path / "x.csv")],
    ):
        output = CliRunner().invoke(app, arguments).output
        assert "20 entities off token boundaries, their tokens left unannotated" in output, arguments


def test_an_earlier_split_does_not_stay_beside_the_new_one(tmp_path):
    (tmp_path / "a.jsonl").write_text(lines(*({"text": f"text {i * i} of words", "label": "AB"[i % 2]} for i in range(30))))
    split_files([tmp_path / "a.jsonl"], tmp_path / "out", {"train": 0.6, "dev": 0.2, "test": 0.2})
    with pytest.raises(UserError, match=r"test/a\.spacy: is of an earlier split"):
        split_files([tmp_path / "a.jsonl"], tmp_path / "out", {"train": 0.5, "dev": 0.5})
    split_files([tmp_path / "a.jsonl"], tmp_path / "out", {"train": 0.5, "dev": 0.3, "test": 0.2})


def test_converting_a_converted_file_says_what_it_cannot_keep(tmp_path):
    doc = NLP("The pump failed.")
    for token in doc:
        token.tag_ = "X"
    doc.cats = {"A": 1.0}
    DocBin(docs=[doc], attrs=["TAG"]).to_disk(tmp_path / "a.spacy")
    _, report = read(tmp_path / "a.spacy")
    assert any("tags, which are left out" in what for what in report.counts)


def test_our_own_rows_hold_scores_attributes_and_groups_on_the_way_out(tmp_path):
    record = Record("The pump failed.", "", entities=[Entity(4, 8, "PART", {"negated": True})], number=2.5, extra={"group": "p1"})
    doc = record_to_doc(record, NLP, Report())
    export_docs([doc], tmp_path / "a.jsonl", "jsonl")
    (row,) = map(json.loads, (tmp_path / "a.jsonl").open())
    assert row["score"] == 2.5 and row["group"] == "p1" and row["entities"][0]["label"] == "PART"


def test_labels_with_separators_come_back_from_csv(tmp_path):
    docs = [NLP("a b"), NLP("c d")]
    for doc, labels in zip(docs, (["A,B", "C|D"], ["E"])):
        doc.cats = dict.fromkeys(labels, 1.0)
    export_docs(docs, tmp_path / "a.csv", "csv")
    assert [set(record.cats) for record in read(tmp_path / "a.csv")[0]] == [{"A,B", "C|D"}, {"E"}]


# What a file says, and what it does not


def test_an_annotation_beside_another_file_is_not_its_own(tmp_path):
    (tmp_path / "reports.ann").write_text("T1\tX 0 1\ta\n")
    (record,), report = read(tmp_path / "reports.jsonl", '{"text": "a b", "label": "A"}\n')
    assert record.cats == {"A": 1.0} and report.format == "JSON Lines"


@pytest.mark.parametrize("cell,number", [("2,5", 2.5), ("1.5", 1.5), ("1,234", None), ("1,234.5", None), ("inf", None)])
def test_a_number_that_can_be_read_in_two_ways_is_refused(tmp_path, cell, number):
    content = f'text,score\na,"{cell}"\nb,\n'
    if number is None:
        with pytest.raises(UserError, match=r"line 2: .* is not a number"):
            read(tmp_path / "a.csv", content)
    else:
        first, second = read(tmp_path / "a.csv", content)[0]
        assert first.number == number and second.number is None


def test_pubtator_documents_without_a_blank_line_are_apart(tmp_path):
    content = "1|t|Aspirin.\n1|a|It helps.\n1\t0\t7\tAspirin\tC\n2|t|Zinc.\n2\t0\t4\tZinc\tC\n"
    assert [record.text for record in read(tmp_path / "a.txt", content)[0]] == ["Aspirin. It helps.", "Zinc."]
    with pytest.raises(UserError, match="line 2: a mention of the document '9' in that of '1'"):
        read(tmp_path / "b.txt", "1|t|Aspirin.\n9\t0\t7\tAspirin\tC\n")


@pytest.mark.parametrize("value", ["false", "no", 2])
def test_whether_a_question_has_an_answer_is_true_or_false(tmp_path, value):
    row = {"text": "a b", "qas": [{"question": "Q?", "is_impossible": value, "answers": [{"text": "a", "answer_start": 0}]}]}
    with pytest.raises(UserError, match='"is_impossible" must be true or false'):
        read(tmp_path / "a.jsonl", lines(row))


def test_a_parquet_file_with_entities_is_read_as_rows(tmp_path):
    Dataset.from_list([{"text": "a b", "label": "A", "entities": [{"start": 0, "end": 1, "label": "X"}]}]).to_parquet(
        tmp_path / "a.parquet"
    )
    (record,), _ = read(tmp_path / "a.parquet")
    assert record.cats == {"A": 1.0} and [(e.start, e.end, e.label) for e in record.entities] == [(0, 1, "X")]


def test_a_key_can_be_a_category_of_its_own(tmp_path):
    rows = lines({"text": "a", "urgent": True}, {"text": "b", "urgent": 0})
    records, _ = read(tmp_path / "a.jsonl", rows, columns={"cats:urgent": "urgent"})
    assert [record.cats for record in records] == [{"urgent": 1.0}, {"urgent": 0.0}]


@pytest.mark.parametrize("label", [None, "", " ", [], {}])
def test_a_mention_without_a_label_is_refused_in_every_format(tmp_path, label):
    span = {"start": 0, "end": 1, "text": "a"}
    contents = [
        [{"id": 1, "text": "a b", "label": [[0, 1, label]]}],
        [{"data": {"text": "a b"}, "annotations": [{"result": [{"value": {**span, "labels": [label]}}]}]}],
        [["a b", {"entities": [[0, 1, label]]}]],
        [{"text": "a b", "entities": [{**span, "label": label}]}],
    ]
    for content in contents:
        with pytest.raises(UserError, match=r"a\.json"):
            read(tmp_path / "a.json", json.dumps(content))


def test_separators_are_those_of_the_column(tmp_path):
    records, _ = read(tmp_path / "a.csv", 'text,labels\na,Paris|Rome\nb,"Washington, D.C."\n')
    assert [set(record.cats) for record in records] == [{"Paris", "Rome"}, {"Washington, D.C."}]


@pytest.mark.parametrize("tags", [["B_ORG", "I_ORG", "O"], ["b-ORG", "i-ORG", "o"], ["B-ORG", "I-ORG", "_"]])
def test_tags_of_other_spellings(tmp_path, tags):
    content = "".join(f"{word} {tag}\n" for word, tag in zip(("New", "York", "is"), tags))
    (record,), _ = read(tmp_path / "a.conll", content)
    assert [(record.text[e.start : e.end], e.label) for e in record.entities] == [("New York", "ORG")]
    (record,), _ = read(tmp_path / "b.conll", "New B\nYork I\nis O\n")
    assert [(record.text[e.start : e.end], e.label) for e in record.entities] == [("New York", "ENTITY")]


def test_categories_that_are_identifiers_are_refused_before_memory_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr("mtl.tasks.textcat.task.MOST_CELLS", 100)
    (tmp_path / "a.jsonl").write_text(lines(*({"text": f"t{i}", "label": f"id{i}"} for i in range(20))))
    with pytest.raises(UserError, match=r"line 1: 20 categories, such as 'id0', in 20 documents are more than a head can learn"):
        mtl.convert({"train": tmp_path / "a.jsonl"}, tmp_path / "out")


def test_names_of_tasks_stay_in_the_folder(tmp_path):
    (tmp_path / "a.jsonl").write_text(lines({"text": "a", "label": "A"}))
    for name in ("/evil", "../evil"):
        result = CliRunner().invoke(app, ["convert", str(tmp_path / "a.jsonl"), "--task", name, "--out", str(tmp_path / "out")])
        assert result.exit_code != 0 and "--task" in str(result.exception)


def test_a_language_that_lacks_a_package_says_which():
    with pytest.raises(UserError, match="--lang 'xyz': spaCy has no such language"):
        mtl.read("x.jsonl", lang="xyz")


# What counts as the same text


@pytest.mark.parametrize(
    "one,other", [("It is C++.", "It is C#."), ("-5 degrees", "+5 degrees"), ("\u0915\u093e", "\u0915\u0940")]
)
def test_signs_with_a_meaning_make_another_text(one, other):
    assert normalized(one) != normalized(other)


def test_case_punctuation_and_composition_do_not():
    assert normalized("The  Pump, failed!") == normalized("the pump failed") and normalized("caf\u00e9") == normalized(
        "cafe\u0301"
    )


def test_every_pair_above_the_threshold_is_found():
    """Signatures only propose candidates: similarity is computed."""
    rng, missed, pairs = random.Random(0), 0, 0
    for _ in range(120):
        words = [f"w{rng.randrange(10_000)}" for _ in range(300)]
        other = list(words)
        for place in rng.sample(range(300), rng.randrange(2, 8)):
            other[place] = "changed"
        shingles = [{" ".join(text[k : k + 5]) for k in range(296)} for text in (words, other)]
        if len(shingles[0] & shingles[1]) / len(shingles[0] | shingles[1]) >= 0.8:
            pairs += 1
            finder = NearDuplicates(0.8)
            finder.add(" ".join(words))
            missed += not finder.add(" ".join(other))
    assert pairs > 50 and missed <= 0.03 * pairs, (missed, pairs)


def test_one_entity_type_everywhere_is_no_fault_and_a_category_that_never_holds_is(tmp_path):
    (tmp_path / "a.jsonl").write_text(lines(*({"text": f"Pump {i} failed.", "entities": [[0, 4, "PART"]]} for i in range(9))))
    assert "one-sided" not in {finding["kind"] for finding in check_data({"train": [tmp_path / "a.jsonl"]})["findings"]}
    rows = [{"text": f"Pump {i} failed.", "cats": {"A": i % 2, "B": 0, "C": 1}} for i in range(9)]
    (tmp_path / "b.jsonl").write_text(lines(*rows))
    found = [f["message"] for f in check_data({"train": [tmp_path / "b.jsonl"]})["findings"] if f["kind"] == "one-sided"]
    assert len(found) == 2 and "'B' never holds" in found[0] + found[1] and "'C' always holds" in found[0] + found[1]


# What the first rows do not tell


def test_a_rare_category_and_a_late_separator_are_found_in_all_rows(tmp_path):
    rows = "".join(f"You are person number {i}.,{i % 2},{int(i == 90)}\n" for i in range(100))
    records, _ = read(tmp_path / "a.csv", "text,toxic,threat\n" + rows)
    assert [record.cats["threat"] for record in records].count(1.0) == 1
    rows = "".join(f"text {i},billing\n" for i in range(80)) + "text x,billing;refund\n"
    assert set(read(tmp_path / "b.csv", "text,labels\n" + rows)[0][-1].cats) == {"billing", "refund"}


def test_a_blank_cell_is_no_where_others_say_yes_alone(tmp_path):
    first, second = read(
        tmp_path / "a.csv", "text,urgent,spam\na b c d,x,1\ne f g h,,\n", columns={"cats:urgent": "urgent", "cats:spam": "spam"}
    )[0]
    assert first.cats == {"urgent": 1.0, "spam": 1.0} and second.cats == {"urgent": 0.0, "spam": 0.0}
    records, _ = read(tmp_path / "b.csv", "text,spam\na,1\nb,0\nc,\n", columns={"cats:spam": "spam"})
    assert [record.cats for record in records] == [{"spam": 1.0}, {"spam": 0.0}, None]


def test_a_number_of_label_studios_is_a_score_only_if_it_is_called_so(tmp_path):
    row = {
        "text": "a b",
        "kind": {"choices": ["A"]},
        "id": 1,
        "annotation_id": 1,
        "lead_time": 1.0,
        "ticket_id": 48213,
        "rating": 4,
    }
    (record,), _ = read(tmp_path / "a.json", json.dumps([row]))
    assert record.number == 4 and set(record.cats) == {"A"}


def test_labels_beside_entities_keep_both(tmp_path):
    row = {"text": "Apple buys", "label": ["deal"], "entities": [{"start": 0, "end": 5, "label": "ORG"}]}
    (record,), _ = read(tmp_path / "a.jsonl", lines(row))
    assert set(record.cats) == {"deal"} and [entity.label for entity in record.entities] == ["ORG"]


def test_an_attribute_of_an_event_says_nothing_of_entities(tmp_path):
    (tmp_path / "a.txt").write_text("The pump failed.")
    (record,), report = read(tmp_path / "a.ann", "T1\tPART 4 8\tpump\nE1\tFAIL:T1\nA1\tNegated E1\n")
    assert record.entities[0].attributes is None and report.counts["attributes of events and relations left out"] == 1


def test_rows_of_a_text_need_not_follow_each_other(tmp_path):
    content = "text,start,end,label\nApple buys.,0,5,ORG\nx,,,\nApple buys.,6,10,V\n"
    first, second = read(tmp_path / "a.csv", content)[0]
    assert len(first.entities) == 2 and second.entities == []


@pytest.mark.parametrize("key", ["lable", "Text", "category"])
def test_a_key_of_column_that_means_nothing_is_refused(tmp_path, key):
    with pytest.raises(UserError, match=f"--column = '{key}' is not known; allowed: 'text', 'label'"):
        read(tmp_path / "a.csv", "text,label\na,b\n", columns={key: "label"})


@pytest.mark.parametrize("encoding", ["base64", "hex", "rot13", "nothing"])
def test_what_is_no_encoding_of_text_is_refused(tmp_path, encoding):
    (tmp_path / "a.txt").write_text("a")
    for name, content in (("a.csv", "text,label\na,b\n"), ("a.ann", "T1\tX 0 1\ta\n")):
        with pytest.raises(UserError, match="there is no such encoding of text"):
            read(tmp_path / name, content, encoding=encoding)


def test_a_cell_like_a_python_set_is_a_text(tmp_path):
    (record,), _ = read(tmp_path / "a.csv", "text,label\n{{1}},A\n")
    assert record.text == "{{1}}" and read(tmp_path / "b.csv", "text,label\n[1],A\n")[0][0].text == "[1]"


# Archives, copies and exports


def test_a_tar_that_ends_in_a_zip_is_a_tar_and_damaged_archives_are_named(tmp_path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("inner.jsonl", lines({"text": "inner", "label": "A"}))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in (("a.jsonl", lines({"text": "outer", "label": "A"}).encode()), ("b.zip", inner.getvalue())):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    with pytest.raises(UserError, match=r"b\.zip"):
        read(tmp_path / "a.tar")
    with zipfile.ZipFile(tmp_path / "bad.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jsonl", lines(*({"text": f"text {i}", "label": "A"} for i in range(200))))
    content = bytearray((tmp_path / "bad.zip").read_bytes())
    content[60:90] = b"\xff" * 30
    for name, data in (
        ("bad.zip", bytes(content)),
        ("bad.bz2", b"BZh91AY&SY" + b"\0" * 40),
        ("bad.xz", b"\xfd7zXZ\0" + b"\1" * 40),
    ):
        with pytest.raises(UserError, match=name):
            read(tmp_path / name, data)


def test_the_copy_of_check_never_replaces_its_source_and_tells_splits_apart(tmp_path):
    (tmp_path / "a.jsonl").write_text(lines(*({"text": f"text {i * i} of some words", "label": "AB"[i % 2]} for i in range(6))))
    mtl.convert({"train": tmp_path / "a.jsonl"}, tmp_path / "g" / "train")
    with pytest.raises(UserError, match="would write over"):
        fix_data({"train": [tmp_path / "g" / "train" / "train.spacy"]}, tmp_path / "g", lang="en", reading=make_reading())
    same = {"train": [tmp_path / "a.jsonl"], "dev": [tmp_path / "a.jsonl"]}
    removed = fix_data(same, tmp_path / "fixed", lang="en", reading=make_reading())
    assert {one["split"] for one in removed} == {"train"} and len(mtl.read(tmp_path / "fixed" / "dev" / "a.spacy")) == 6
    (tmp_path / "b.jsonl").write_text(lines({"text": "about US", "label": "A"}, {"text": "about us", "label": "A"}))
    assert fix_data({"train": [tmp_path / "b.jsonl"]}, tmp_path / "b", lang="en", reading=make_reading()) == []


def test_entities_inside_others_are_written_or_counted(tmp_path):
    record = Record(
        "University of Oslo", "", entities=[Entity(0, 18, "ORG", {"old": True}), Entity(14, 18, "LOC")], overlapping=True
    )
    doc = record_to_doc(record, NLP, Report())
    export_docs([doc], tmp_path / "a.jsonl", "prodigy")
    assert len(json.loads((tmp_path / "a.jsonl").read_text())["spans"]) == 2
    report = export_docs([doc], tmp_path / "a.conll", "conll")
    assert report.counts["entities off tokens or inside others, which conll does not hold"] == 1


def test_split_refuses_files_without_annotation(tmp_path):
    (tmp_path / "a.jsonl").write_text(lines({"text": "a", "label": None}, {"text": "b", "label": None}))
    with pytest.raises(UserError, match="no document has an annotation"):
        split_files([tmp_path / "a.jsonl"], tmp_path / "out", {"train": 0.5, "dev": 0.5})


def test_text_files_of_old_macs_have_line_numbers(tmp_path):
    with pytest.raises(UserError, match="line 3"):
        read(tmp_path / "a.jsonl", b'{"text": "a", "label": "A"}\r{"text": "b", "label": "A"}\r{"text": }\r')
