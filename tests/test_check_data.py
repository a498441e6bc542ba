"""`mtl check`: for each finding, data that has it and data that has not."""

import json
import random

import pytest
from typer.testing import CliRunner

from mtl.cli.app import app
from mtl.data.check.findings import ERROR, NOTE, WARNING, check_lines, check_page, worst
from mtl.data.check.fix import fix_data
from mtl.data.check.run import check_data
from mtl.data.convert import convert_splits
from mtl.data.formats.reading import Reading
from mtl.errors import UserError

TEXT = "the pump failed on climb out of oslo and was replaced by a spare one from the store in bergen"
WORDS = tuple(TEXT.split())


def rows(count, label=lambda i: "AB"[i % 2], offset=0, **more):
    """Documents that have little in common, with categories that alternate."""
    texts = [" ".join(WORDS[(i * 7 + k * k) % len(WORDS)] + str(i + offset) for k in range(12)) for i in range(count)]
    return [{"text": text, "label": label(i), **more} for i, text in enumerate(texts)]


def check(tmp_path, train, dev=(), test=(), **options):
    files = {}
    for split, docs in (("train", train), ("dev", dev), ("test", test)):
        if docs:
            path = tmp_path / f"{split}.jsonl"
            path.write_text("\n".join(map(json.dumps, docs)))
            files[split] = [path]
    return check_data(files, **options)


def kinds(result):
    return {(finding["level"], finding["kind"]) for finding in result["findings"]}


def test_good_data_has_no_findings(tmp_path):
    result = check(tmp_path, rows(20), rows(10, offset=100), rows(10, offset=200))
    assert result["findings"] == [] and worst(result) == ""
    assert result["documents"] == {"train": 20, "dev": 10, "test": 10}
    assert result["annotated"] == {"categories": {"train": 20, "dev": 10, "test": 10}}


def drawn(prefix, count, seed=0):
    """Documents of words from a small vocabulary."""
    rng = random.Random(seed)
    return [
        {"text": " ".join(f"{prefix}{rng.randrange(100)}" for _ in range(12)), "label": "AB"[i % 2]} for i in range(count)
    ]  # fmt: skip


LEAK = rows(1)[0]["text"]
LONG = " ".join(f"word{i}" for i in range(60))
ENTITY = {"entities": [[0, 3, "PART"]]}
# kind -> level, what is added to train, to dev
CASES = {
    "same text in two splits": (ERROR, [], [{"text": LEAK.upper() + "!", "label": "A"}]),
    "nearly the same text in two splits": (
        WARNING, [{"text": LONG, "label": "A"}], [{"text": LONG.replace("word30", "other"), "label": "A"}]
    ),
    "empty": (ERROR, [{"text": " ", "label": "A"}], []),
    "tiny": (NOTE, [{"text": "Broken.", "label": "A"}], []),
    "huge": (WARNING, [{"text": "broken " * 6000, "label": "A"}], []),
    "odd characters": (WARNING, [{"text": "the cafÃ© door failed again", "label": "A"}], []),
    "contradiction": (WARNING, [{"text": LEAK, "label": "B"}], []),
    "unknown label": (ERROR, [], [{"text": "a new text of some words", "label": "C"}]),
    "spelling": (WARNING, [{"text": f"text number {i} of some words", "label": "a"} for i in range(5)], []),
    "rare label": (WARNING, [{"text": "a new text of some words", "label": "C"}], []),
    "label in train alone": (NOTE, [{"text": f"text number {i} of some words", "label": "C"} for i in range(5)], []),
    "train alone": (WARNING, [{"text": f"text number {i} of some words", **ENTITY} for i in range(5)], []),
    "no training data": (ERROR, [], [{"text": "a new text of some words", **ENTITY}]),
    "repeated": (NOTE, [{"text": LEAK, "label": "A"}], []),
    "other shares": (WARNING, rows(60, offset=300), rows(60, offset=400, label=lambda i: "A" if i else "B")),
    "other words": (WARNING, drawn("word", 200), drawn("other", 100)),
    "advice": (NOTE, [{"text": f"PAN)-induced fever of case {i}", "entities": [[0, 3, "DRUG"]]} for i in range(5)], []),
}  # fmt: skip


@pytest.mark.parametrize("kind", CASES)
def test_each_kind_is_found(tmp_path, kind):
    level, train, dev = CASES[kind]
    result = check(tmp_path, rows(20) + train, rows(10, offset=100) + dev)
    assert (level, kind) in kinds(result)
    (finding, *_) = [finding for finding in result["findings"] if finding["kind"] == kind]
    assert finding["message"] and (finding["todo"] or kind == "advice")


def test_one_label_everywhere_teaches_nothing(tmp_path):
    result = check(tmp_path, rows(20, label=lambda i: "A"), rows(10, label=lambda i: "A", offset=100))
    assert (WARNING, "one-sided") in kinds(result)


def test_what_no_head_can_learn_is_counted(tmp_path):
    """Gold that a file's reader would have repaired, in a converted file that another tool has made."""
    import spacy
    from spacy.tokens import DocBin, Span

    nlp = spacy.blank("en")
    doc = nlp("The pump  failed again today.")
    doc.set_ents([Span(doc, 1, 3, label="PART")])  # the second token is white space
    DocBin(docs=[doc, *(nlp(row["text"]) for row in rows(3))]).to_disk(tmp_path / "train.spacy")
    result = check_data({"train": [tmp_path / "train.spacy"]})
    assert (WARNING, "not learnable") in kinds(result)


def test_splits_are_compared_over_tasks_and_files(tmp_path):
    """A dev text of one task that is a training text of another leaks through the shared encoder."""
    (tmp_path / "categories.jsonl").write_text(json.dumps({"text": LEAK, "label": "A"}))
    (tmp_path / "dev.conll").write_text("".join(f"{word} O\n" for word in LEAK.split()) + "\nOslo B-LOC\n")
    result = check_data({"train": [tmp_path / "categories.jsonl"], "dev": [tmp_path / "dev.conll"]})
    assert (ERROR, "same text in two splits") in kinds(result)
    (finding, *_) = result["findings"]
    assert "dev.conll, line 1: the same text as" in finding["places"][0] and "categories.jsonl, line 1" in finding["places"][0]


def test_converted_files_and_folders_are_checked_like_their_sources(tmp_path):
    result = check(tmp_path, rows(20), [{"text": LEAK, "label": "A"}])
    files = {split: tmp_path / f"{split}.jsonl" for split in ("train", "dev")}
    paths = {split: tmp_path / "converted" / split for split in files}
    convert_splits(files, paths, shard_size=7)
    again = check_data({split: [path] for split, path in paths.items()})
    assert kinds(again) == kinds(result) and again["documents"] == result["documents"]
    assert ".spacy, document 1: the same text as" in again["findings"][0]["places"][0]


def test_a_missing_file_is_named_before_the_others_are_read(tmp_path):
    (tmp_path / "train.csv").write_text("no,table")
    with pytest.raises(UserError, match=r"nowhere\.csv: no such file"):
        check_data({"train": [tmp_path / "train.csv"], "dev": [tmp_path / "nowhere.csv"]})


def test_many_places_are_counted_and_the_first_are_shown(tmp_path):
    result = check(tmp_path, rows(20), [{"text": row["text"], "label": row["label"]} for row in rows(9)])
    (finding,) = [f for f in result["findings"] if f["kind"] == "same text in two splits"]
    assert finding["count"] == 9 and len(finding["places"]) == 5
    assert any("... and 4 more" in line for line in check_lines(result))


def test_the_command_fails_on_errors_and_with_strict_on_warnings(tmp_path):
    check(tmp_path, rows(20), rows(10, offset=100))
    train, dev = str(tmp_path / "train.jsonl"), str(tmp_path / "dev.jsonl")
    good = CliRunner().invoke(app, ["check", "--train", train, "--dev", dev])
    assert good.exit_code == 0 and "nothing found" in good.output
    report = tmp_path / "findings.json"
    leaking = CliRunner().invoke(app, ["check", "--train", train, "--dev", train, "--out", str(report)])
    assert leaking.exit_code == 1 and "error: 20 documents have the text of one in another split" in leaking.output
    assert json.loads(report.read_text())["findings"][0]["kind"] == "same text in two splits"
    check(tmp_path, [*rows(20), {"text": LEAK, "label": "B"}])
    warned = ["check", "--train", train]
    assert CliRunner().invoke(app, warned).exit_code == 0 and CliRunner().invoke(app, [*warned, "--strict"]).exit_code == 1


# Several documents on one text


def test_questions_on_one_text_do_not_contradict_each_other(tmp_path):
    first = {"text": LONG, "qas": [{"id": "1", "question": "Which?", "answers": [{"text": "word3", "answer_start": 18}]}]}
    second = {"text": LONG, "qas": [{"id": "1", "question": "What?", "answers": []}]}
    third = {"text": LONG, "qas": [{"id": "9", "question": "Which?", "answers": []}]}
    assert not {"contradiction", "repeated"} & {kind for _, kind in kinds(check(tmp_path, [first, second]))}
    result = check(tmp_path, [first, second, third])
    (finding,) = [f for f in result["findings"] if f["kind"] == "contradiction"]
    assert finding["places"] == [f"{tmp_path}/train.jsonl, line 3: other questions than {tmp_path}/train.jsonl, line 1"]


def test_every_near_text_is_found_whatever_came_before(tmp_path):
    """A dev text that is near the second of two near training texts, and less near the first."""
    words = LONG.split()
    second = [*words[:-5], *(f"other{i}" for i in range(5))]
    third = [*(f"new{i}" for i in range(4)), *second[4:]]
    texts = [" ".join(part) for part in (words, second, third)]
    result = check(tmp_path, [{"text": text, "label": "A"} for text in texts[:2]], [{"text": texts[2], "label": "A"}])
    (finding,) = [f for f in result["findings"] if f["kind"] == "nearly the same text in two splits"]
    assert "line 2" in finding["places"][0]


def test_long_answers_and_questions_without_any_are_said(tmp_path):
    text = " ".join(f"w{i}" for i in range(100))
    answer = [{"text": text[:150], "answer_start": 0}]
    result = check(tmp_path, [{"text": text, "qas": [{"id": "1", "question": "Which?", "answers": answer}]}])
    advice = [f["message"] for f in result["findings"] if f["kind"] == "advice"]
    assert any(
        "1 of 1 answers are longer than the default of 30 tokens" in line and "max_answer_tokens = " in line for line in advice
    )
    assert any("every question has an answer" in line for line in advice)


# The unlabelled text, and windows


def test_unlabelled_text_of_another_domain_is_said(tmp_path):
    train = drawn("word", 100)
    same, other = ([row["text"] for row in drawn(prefix, 100, seed=1)] for prefix in ("word", "law"))
    files = {"train": [tmp_path / "train.jsonl"]}
    check(tmp_path, train)
    assert "other words" not in {kind for _, kind in kinds(check_data(files, unlabelled=same))}
    result = check_data(files, unlabelled=other)
    (finding,) = [f for f in result["findings"] if f["kind"] == "other words"]
    assert "the unlabelled text lacks 100% of the words of train" in finding["message"]


def test_documents_longer_than_the_window_are_counted(tmp_path):
    check(tmp_path, [{"text": "a b c d", "label": "A"}, {"text": "a", "label": "B"}])
    result = check_data({"train": [tmp_path / "train.jsonl"]}, subwords=lambda text: len(text.split()), window=3)
    (finding,) = [f for f in result["findings"] if f["kind"] == "longer than the window"]
    assert finding["places"] == [f"{tmp_path}/train.jsonl, line 1: 4 subwords"] and "up to 4" in finding["message"]


def test_labels_are_counted_by_split(tmp_path):
    assert check(tmp_path, rows(20), rows(3, offset=100))["labels"] == {
        "categories": {"train": {"A": 10, "B": 10}, "dev": {"A": 2, "B": 1}}
    }


# A page, and a copy without what leaks


def test_the_page_shows_the_texts_escaped(tmp_path):
    result = check(tmp_path, [{"text": "<b>bold</b> Ã© text of words", "label": "A"}])
    page = check_page(result)
    assert "&lt;b&gt;bold&lt;/b&gt;" in page and "<b>bold" not in page and "train.jsonl, line 1" in page


def test_the_copy_has_no_leaks_and_the_log_says_why(tmp_path):
    near = LONG.replace("word30", "other")
    train = [*rows(20), {"text": LONG, "label": "A"}, {"text": " ", "label": "A"}, {"text": LEAK, "label": "A"}]
    train += [
        {"text": "of a group that is in dev too", "label": "A", "group": "g"},
        {"text": "the one to keep here", "label": "B"},
    ]
    dev = [{"text": near, "label": "A"}, {"text": rows(3)[2]["text"].upper(), "label": "A"}]
    dev += [{"text": "some words of that very group", "label": "B", "group": "g"}]
    check(tmp_path, train, dev)
    arguments = ["check", "--train", str(tmp_path / "train.jsonl"), "--dev", str(tmp_path / "dev.jsonl")]
    result = CliRunner().invoke(app, [*arguments, "--fix", str(tmp_path / "fixed"), "--html", str(tmp_path / "page.html")])
    assert result.exit_code == 1 and "5 documents removed" in result.output, result.output
    log = {row["where"].split(", ")[1]: row["why"] for row in map(json.loads, (tmp_path / "fixed" / "removed.jsonl").open())}
    assert list(log) == ["line 22", "line 3", "line 24", "line 21", "line 23"]
    assert log["line 22"] == "empty" and "nearly the same" in log["line 21"] and "of the group 'g'" in log["line 24"]
    files = {split: [tmp_path / "fixed" / split / f"{split}.spacy"] for split in ("train", "dev")}
    again = check_data(files)
    assert again["documents"] == {"train": 20, "dev": 3} and worst(again) != ERROR
    assert fix_data(files, tmp_path / "again", lang="en", reading=Reading()) == []
