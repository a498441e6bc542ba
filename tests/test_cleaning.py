"""Cleaning of raw text: each step changes what it is for and nothing else."""

import json
import random

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.adaptation.blocks import BlockSettings, load_corpus
from mtl.adaptation.cleaning import CleanReport, CleanSettings, clean
from mtl.cli.app import main
from mtl.data.docs import write_docs
from mtl.data.duplicates import NearDuplicates
from mtl.encoder.pretrained.sources import load_tokenizer
from mtl.errors import UserError

WORDS = [f"word{i}" for i in range(500)]


def prose(seed, length=60):
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def cleaned(documents, **changes):
    report = CleanReport()
    return list(clean(documents, CleanSettings(**changes), report)), report


def test_good_text_is_left_as_it_is():
    documents = [f"{prose(1)}\n{prose(2)}", prose(3), "Short but enough “quotes”, ½ naïve Ω 中文 too"]
    texts, report = cleaned(documents)
    assert texts == documents and report.counts == {} and report.lines() == []


@pytest.mark.parametrize(
    "damaged, repaired, change",
    [
        ("the patient\u2019s Ã©tat was stable", "the patient\u2019s état was stable", "broken characters, repaired"),
        ("a\x00 pump\x07 failed today", "a pump failed today", "control characters, removed"),
        ("\ufeffthe first line here", "the first line here", "control characters, removed"),
    ],
)
def test_damaged_characters_are_repaired_and_counted(damaged, repaired, change):
    texts, report = cleaned([damaged])
    assert texts == [repaired] and report.counts == {change: 1}


def test_short_and_repeated_paragraphs_are_dropped_and_the_rest_of_a_document_stays():
    footer = "Copyright of the publisher, all rights reserved."
    documents = [f"{prose(1)}\nPage 3\n{footer}", f"{prose(2)}\n{footer.upper()}", footer, f"{prose(4)}\n{prose(1)}"]
    texts, report = cleaned(documents)
    assert texts == [f"{prose(1)}\n{footer}", prose(2), prose(4)]
    assert report.counts == {"fewer than 3 words, dropped": 1, "repeated (such as boilerplate), dropped": 3}


def test_near_duplicates_are_dropped_and_a_document_that_shares_half_stays():
    text = prose(1, 200).split()
    changed = " ".join([*text[:100], "another", *text[101:]])  # shares 191 of 201 5-grams
    half = " ".join([*text[:100], *prose(2, 100).split()])
    texts, report = cleaned([" ".join(text), changed, half])
    assert texts == [" ".join(text), half] and report.counts == {"near duplicates, dropped (documents)": 1}
    assert cleaned([" ".join(text), changed], near_duplicate_threshold=0.0)[0] == [" ".join(text), changed]


def test_the_near_duplicate_threshold_is_on_the_jaccard_similarity():
    """Compared with the exact similarity, which is further from the threshold than the error of the estimate."""
    for changes, expected in ((1, True), (4, True), (20, False), (60, False)):
        near = NearDuplicates(0.8)
        first = prose(7, 300).split()
        second = list(first)
        for i in range(changes):
            second[i * (300 // changes)] = f"new{i}"
        ngrams = [{tuple(words[i : i + 5]) for i in range(296)} for words in (first, second)]
        similarity = len(ngrams[0] & ngrams[1]) / len(ngrams[0] | ngrams[1])
        assert (similarity > 0.85) == expected and abs(similarity - 0.8) > 0.05
        assert not near.seen(" ".join(first)) and near.seen(" ".join(second)) == expected


def test_the_text_of_labelled_documents_is_dropped(tmp_path):
    tested = prose(1, 100)
    (tmp_path / "test.jsonl").write_text(json.dumps({"text": tested, "label": "A"}) + "\n")
    nlp = spacy.blank("en")
    write_docs([nlp.make_doc(prose(2, 40)), nlp.make_doc("Five words and no more.")], tmp_path / "dev.spacy")
    inside = "It was said that " + " ".join(tested.split()[50:63]).upper() + ", and more."
    near_miss = "It was said that " + " ".join(tested.split()[20:32]) + " and something else."  # 12 of its words
    documents = [f"{prose(5)}\n{inside}\n{near_miss}", f"{prose(6)}\n{prose(2, 40)}\nfive words, AND no more"]
    texts, report = cleaned(documents, decontaminate=(str(tmp_path / "test.jsonl"), str(tmp_path / "dev.spacy")))
    assert texts == [f"{prose(5)}\n{near_miss}", prose(6)]
    assert report.counts == {"in a labelled document, dropped": 3}
    assert report.contaminated[0].startswith("It was said that WORD") and report.lines()[1].startswith(
        "  in a labelled document: It"
    )


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(max_size=60), max_size=6))
def test_cleaning_twice_is_cleaning_once(documents):
    once, _ = cleaned(documents, min_words=2)
    again, report = cleaned(once, min_words=2)
    assert again == once and not any("\n\n" in text or not text.strip() for text in once) and report.counts == {}


def test_shards_depend_on_the_cleaning_and_hold_the_clean_text(tiny, tmp_path):
    tokenizer = load_tokenizer(tiny())
    text, tested = tmp_path / "text.txt", tmp_path / "dev.jsonl"
    text.write_text("\n\n".join([*(prose(i) for i in range(20)), prose(3)]))
    tested.write_text(json.dumps({"text": prose(7)}) + "\n")
    messages = []

    def corpus(cleaning):
        return load_corpus([str(text)], tokenizer, BlockSettings(24, 0.1, 0), tmp_path / "cache", messages.append, cleaning)

    raw, clean_corpus = corpus(None), corpus(CleanSettings())
    decontaminated = corpus(CleanSettings(decontaminate=(str(tested),)))
    corpora = (raw, clean_corpus, decontaminated)
    assert [part.documents for part in corpora] == [21, 20, 19] and len({part.key for part in corpora}) == 3
    assert clean_corpus.cleaning["counts"] == {"repeated (such as boilerplate), dropped": 1} and raw.cleaning is None
    assert "in a labelled document, dropped: 1" in messages
    tested.write_text(json.dumps({"text": prose(8)}) + "\n")
    assert corpus(CleanSettings(decontaminate=(str(tested),))).key not in (clean_corpus.key, decontaminated.key)
    with pytest.raises(UserError, match=r"text.txt: no text found after cleaning .*dropped: 21"):
        corpus(CleanSettings(min_words=100))


@pytest.mark.parametrize(
    "options, message",
    [
        (["--decontaminate", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["--near-duplicate-threshold", "1.5"], "near-duplicate-threshold = 1.5 is out of range; allowed: 0.0 to 1.0"),
        (["--no-clean", "--decontaminate", "x"], "--no-clean turns off"),
    ],
)
def test_wrong_cleaning_options_are_named(tiny, tmp_path, monkeypatch, capsys, options, message):
    (tmp_path / "text.txt").write_text(f"{prose(1)}\n\n{prose(2)}")
    command = ["adapt", tiny(), str(tmp_path / "text.txt"), "--out", str(tmp_path / "out"), "--block-size", "32", *options]
    monkeypatch.setattr("sys.argv", ["mtl", *command])
    with pytest.raises(SystemExit):
        main()
    assert message in " ".join(capsys.readouterr().err.split())
