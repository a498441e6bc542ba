"""Conversion in shards and processes: the same documents, counts and errors however many there are."""

import json

import pytest

from mtl.data import convert
from mtl.data.convert import convert_splits
from mtl.data.docs import blank_pipeline, docbin_files, read_docs
from mtl.data.records import Entity, Record, Report
from mtl.data.shards import make_shards
from mtl.errors import UserError


def write(folder, count, last=None):
    rows = [
        {"text": f"Pump {i} failed (again).", "label": "AB"[i % 2], "entities": [[0, 4, "PART"], [5, 6 + (i > 9), "NUMBER"]],
         "qas": [{"question": "Which " + "very " * i + "part?", "answers": []}]}
        for i in range(count)
    ]  # fmt: skip
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows + ([last] if last else []))))
    return {"train": folder / "train.jsonl"}


def documents(path):
    return [
        (doc.text, dict(doc.cats), [(ent.text, ent.label_) for ent in doc.ents])
        for doc in read_docs(path, blank_pipeline("en").vocab)
    ]


@pytest.mark.parametrize("target", ["train.spacy", "train"])
def test_processes_and_shards_change_nothing(tmp_path, target):
    files = write(tmp_path, 23)
    results = {}
    for processes, size in ((1, 2000), (1, 5), *([(2, 5)] if target == "train" else [])):
        path = tmp_path / f"{processes}-{size}" / target
        report = convert_splits(files, {"train": path}, shard_size=size, processes=processes)["train"]
        results[processes, size] = (documents(path), report.counts, report.notes, report.advice)
        if target == "train":
            assert len(docbin_files(path)) == -(-23 // size)
    first, *others = results.values()
    assert all(other == first for other in others)
    assert first[1]["documents"] == 23 and first[1]["words in the longest question"] == 24  # a largest, no sum


@pytest.mark.slow
def test_an_error_in_a_process_is_that_of_the_file(tmp_path):
    files = write(tmp_path, 23, {"text": "a", "entities": [[0, 9, "X"]]})
    with pytest.raises(UserError, match=r"train.jsonl, line 24: entity X at 0:9 lies outside the text"):
        convert_splits(files, {"train": tmp_path / "out" / "train"}, shard_size=5, processes=2)
    assert not (tmp_path / "out").exists()


def test_records_are_given_up_on_the_way():
    records = [Record(f"text {i}", f"line {i}", entities=[Entity(0, 4, "X")]) for i in range(10)]
    left = [len(records) for _ in make_shards(records, "en", 3, 1)]
    assert left == [7, 4, 1, 0]


def test_a_file_that_is_too_large_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "MAX_FILE", 100)
    files = write(tmp_path, 23)
    with pytest.raises(UserError, match=r"too much for one .spacy file.*--shard-size 2000"):
        convert_splits(files, {"train": tmp_path / "train.spacy"})
    convert_splits(files, {"train": tmp_path / "train"})


def test_reports_add_up():
    first, second = Report(), Report()
    for report, n in ((first, 3), (second, 2)):
        report.count("documents", n)
        report.largest("words in the longest", 10 * n)
        report.note("repaired", f"note {n}")
    first.add(second)
    assert first.counts == {"documents": 5, "words in the longest": 30, "repaired": 2} and first.notes == ["note 3", "note 2"]
