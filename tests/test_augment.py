"""What augmenters change, and that all annotation on a changed document is still valid."""

import json

import pytest
from augment_helpers import ALL_TASKS, ANNOTATED, NLP, TEXT, annotation, changed_by, synonyms_of, whole_doc
from conftest import DATA, gold_doc, make_nlp

from mtl.augment.augmenter import augmenters
from mtl.augment.mentions import mention_augmenter
from mtl.augment.noise import noise_augmenter
from mtl.augment.preview import pair_lines
from mtl.augment.rewrite import Edit, annotations_of, rewritten
from mtl.augment.synonyms import SynonymAugmenter, synonym_augmenter
from mtl.augment.tokens import token_augmenter
from mtl.data.docs import write_docs
from mtl.errors import UserError
from mtl.sampling.corpus import MultiTaskCorpus
from mtl.sampling.strategies import epochs_per_task
from mtl.tasks.span_classifier.gold import span_labels


@pytest.fixture
def corpus(tmp_path):
    """A file of documents with two parts, a place, and a category."""
    docs = [
        gold_doc(NLP, "The left engine at Bergen burnt.", ents=[(4, 15, "PART"), (19, 25, "LOC")]),
        gold_doc(NLP, "A valve leaked.", ents=[(2, 7, "PART")]),
        gold_doc(NLP, "Nothing here.", cats={"A": 1.0}),
    ]
    write_docs(docs, tmp_path / "train.spacy")
    return str(tmp_path / "train.spacy")


def test_synonyms_never_replace_words_of_an_entity_or_answer():
    (docs,) = changed_by(SynonymAugmenter(1.0, 1.0, 0, synonyms_of), whole_doc())
    assert [new.text for new in docs] == ["The pump in Oslo broke very soon and was not replaced."]
    assert annotation(docs[0]) == annotation(whole_doc()) and annotations_of(docs[0]) == ALL_TASKS
    no_free_word = gold_doc(NLP, "The pump is here.", ents=[(4, 8, "PART")])
    assert [new.text for (new,) in changed_by(SynonymAugmenter(1.0, 1.0, 0, synonyms_of), no_free_word)] == [no_free_word.text]


def test_level_is_the_fraction_of_documents_and_the_seed_decides_which():
    docs = [gold_doc(NLP, f"It failed quickly {i}.", cats={"A": 1.0}) for i in range(200)]
    first, again, other = (
        [new.text for (new,) in changed_by(SynonymAugmenter(0.3, 0.5, seed, synonyms_of), *docs)] for seed in (0, 0, 1)
    )
    assert first == again != other
    assert 35 < sum(text != doc.text for text, doc in zip(first, docs)) < 85


def test_mentions_come_from_the_training_documents(corpus):
    """Categories and answers may depend on the entity: they stay with the original document."""
    (docs,) = changed_by(mention_augmenter(corpus, level=1.0, fraction=1.0), whole_doc())
    first, new = docs
    assert annotation(first) == annotation(whole_doc()) and annotations_of(new) == {"ner", "span_classifier"}
    assert {ent.text for ent in new.ents if ent.label_ == "PART"} <= {"left engine", "valve"}
    assert [ent.text for ent in new.ents if ent.label_ == "LOC"] == ["Bergen"] and "Oslo" not in new.text
    part, place = new.ents
    assert [(span.text, labels) for span, labels in span_labels(new, "attributes")] == [(part.text, ["OLD"]), (place.text, [])]


def test_mentions_come_from_a_gazetteer(tmp_path):
    path = tmp_path / "parts.jsonl"
    path.write_text('{"label": "PART", "pattern": "fuel control unit"}\n\n')
    augmenter = mention_augmenter(gazetteer=str(path), level=1.0, fraction=1.0, keep=["ner", "textcat"])
    (docs,) = changed_by(augmenter, gold_doc(NLP, TEXT, ANNOTATED["cats"], ANNOTATED["ents"]))
    assert [(new.text, new.cats) for new in docs] == [(TEXT.replace("pump", "fuel control unit"), ANNOTATED["cats"])]
    assert [ent.text for ent in docs[0].ents] == ["fuel control unit", "Oslo"]
    path.write_text('{"label": "PART", "pattern": " fuel  pump "}')
    augmenter = mention_augmenter(gazetteer=str(path), level=1.0, fraction=1.0)
    assert changed_by(augmenter, gold_doc(NLP, TEXT, ents=ANNOTATED["ents"]))[0][0].ents[0].text == "fuel pump"


def test_an_error_in_the_settings_of_mentions_is_named(corpus, tmp_path):
    path = tmp_path / "parts.jsonl"
    path.write_text('{"label": "PART", "pattern": "x"}\n{"label": "PART"}')
    with pytest.raises(UserError, match=r"parts.jsonl, line 2: not of the form"):
        mention_augmenter(gazetteer=str(path))
    path.write_text("\n")
    with pytest.raises(UserError, match=r"parts.jsonl: no entity in it"):
        mention_augmenter(gazetteer=str(path))
    with pytest.raises(UserError, match=r"needs entities: set source, gazetteer, or both"):
        mention_augmenter()
    with pytest.raises(UserError, match=r"keep names cats; allowed: dependencies, .*ner, .*textcat"):
        mention_augmenter(corpus, keep=["cats"])
    with pytest.raises(UserError, match=r"\[corpora.train.augmenter\] fraction = 2"):
        mention_augmenter(corpus, fraction=2)


def test_an_entity_that_a_question_names_is_not_replaced(corpus):
    doc = gold_doc(
        NLP, "The pump in Oslo failed.", ents=[(4, 8, "PART"), (12, 16, "LOC")], qas={"Where did the pump fail?": "Oslo"}
    )
    (docs,) = changed_by(mention_augmenter(corpus, level=1.0, fraction=1.0, keep=["ner", "qa"]), doc)
    assert [new.text for new in docs] == ["The pump in Bergen failed."]
    assert [span.text for span in docs[0].spans["qa"]] == ["Bergen"]


def test_an_entity_in_which_another_span_starts_is_not_replaced(corpus):
    """An answer, or a span of spancat, may be a part of an entity; if it is kept too, the entity is not replaced."""
    ents = [(4, 21, "PART"), (25, 29, "LOC")]
    doc = gold_doc(NLP, "The air cycle machine at Oslo failed.", ents=ents, qas={"Which?": "cycle machine"})
    (docs,) = changed_by(mention_augmenter(corpus, level=1.0, fraction=1.0, keep=["ner", "qa"]), doc)
    assert [new.text for new in docs] == ["The air cycle machine at Bergen failed."]
    assert [span.text for span in docs[0].spans["qa"]] == ["cycle machine"]
    ((first, new),) = changed_by(mention_augmenter(corpus, level=1.0, fraction=1.0), doc)
    assert first.text == doc.text and "air cycle" not in new.text and annotations_of(new) == {"ner"}
    doc = gold_doc(NLP, "The air cycle machine at Oslo failed.", ents=ents)
    doc.spans["sc"] = [doc[2:4]]
    (docs,) = changed_by(mention_augmenter(corpus, level=1.0, fraction=1.0), doc)
    assert [new.text for new in docs] == ["The air cycle machine at Bergen failed."]
    assert [span.text for span in docs[0].spans["sc"]] == ["cycle machine"]


def test_tokens_are_replaced_by_tokens_of_the_same_label(corpus):
    doc = gold_doc(NLP, TEXT, **{**ANNOTATED, "qas": None})
    (docs,) = changed_by(token_augmenter(corpus, level=1.0, fraction=1.0), doc)
    first, new = docs
    assert first.text == TEXT and annotations_of(new) == {"ner"}
    assert new[1].text in ("left", "valve") and new[3].text == "Bergen" and [ent.label_ for ent in new.ents] == ["PART", "LOC"]
    assert {new[i].text for i in (0, 2, 4, 5)} <= {"The", "at", "burnt", "A", "leaked"} and new[10].text == "."
    unlabelled = gold_doc(NLP, TEXT, cats={"A": 1.0})
    assert [new.text for (new,) in changed_by(token_augmenter(corpus, level=1.0), unlabelled)] == [TEXT]


def test_a_source_without_annotation_of_tokens_is_refused(tmp_path):
    write_docs([gold_doc(NLP, "Nothing here.", cats={"A": 1.0})], tmp_path / "cats.spacy")
    doc = gold_doc(NLP, TEXT, ents=ANNOTATED["ents"])
    with pytest.raises(UserError, match=r"cats.spacy: no document in it is annotated with entities or tags"):
        changed_by(token_augmenter(str(tmp_path / "cats.spacy"), level=1.0), doc)
    with pytest.raises(UserError, match=r"cats.spacy: no entity in it"):
        changed_by(mention_augmenter(str(tmp_path / "cats.spacy"), level=1.0), doc)


def test_noise_keeps_negations_entities_and_answers():
    (docs,) = changed_by(noise_augmenter(1.0, stop_words=1.0, lower=0.0, upper=1.0), whole_doc())
    assert [new.text for new in docs] == ["THE PUMP OSLO FAILED QUICKLY NOT REPLACED."]
    assert [ent.text for ent in docs[0].ents] == ["PUMP", "OSLO"] and annotation(docs[0])["answers"] == [("THE PUMP", "q0")]
    (docs,) = changed_by(noise_augmenter(1.0, stop_words=0.0, lower=1.0, upper=0.0), whole_doc())
    assert [new.text for new in docs] == [TEXT.lower()] and annotations_of(docs[0]) == annotations_of(whole_doc())
    (docs,) = changed_by(noise_augmenter(1.0, stop_words=1.0, lower=0.0, upper=0.0, keep_words=["and"]), whole_doc())
    assert [new.text for new in docs] == ["The pump Oslo failed quickly and replaced."]


def test_an_error_in_the_settings_of_noise_is_named():
    with pytest.raises(UserError, match=r"lower = 0.7 and upper = 0.6: their sum must be at most 1"):
        noise_augmenter(lower=0.7, upper=0.6)
    with pytest.raises(UserError, match=r"\[corpora.train.augmenter\] level = 2"):
        noise_augmenter(2)


@pytest.fixture
def wordnet(monkeypatch):
    """The augmenter with WordNet's synonyms."""
    pytest.importorskip("nltk", reason="needs NLTK: pip install spacy-mtl[augment]")
    if (DATA / "nltk_data").is_dir():
        import nltk

        monkeypatch.setattr(nltk.data, "path", [str(DATA / "nltk_data"), *nltk.data.path])
    try:
        return synonym_augmenter(1.0, 1.0)
    except UserError:
        pytest.skip("needs WordNet: set NLTK_DATA, or MTL_DATA")


def test_wordnet_gives_synonyms_of_base_forms_with_a_clear_sense(wordnet):
    """There is no synonym for an inflected form, nor for a word of many senses."""
    assert "MD" not in wordnet.synonyms_of("physician") and "doctor" in wordnet.synonyms_of("physician")
    assert wordnet.synonyms_of("physicians") == [] == wordnet.synonyms_of("xyzzy")
    assert wordnet.synonyms_of("bank") == []
    (docs,) = changed_by(wordnet, gold_doc(NLP, "The physician saw the pump.", ents=[(22, 26, "PART")]))
    assert docs[0].text.split()[1] != "physician" and [ent.text for ent in docs[0].ents] == ["pump"]


def test_a_missing_wordnet_is_reported_with_its_installation(monkeypatch):
    nltk = pytest.importorskip("nltk", reason="needs NLTK: pip install spacy-mtl[augment]")
    from nltk.corpus.util import LazyCorpusLoader

    monkeypatch.setattr(nltk.data, "path", [])
    monkeypatch.setattr("nltk.corpus.wordnet", LazyCorpusLoader("wordnet", nltk.corpus.reader.WordNetCorpusReader, None))
    with pytest.raises(UserError, match=r"needs WordNet: python -m nltk.downloader wordnet, or set NLTK_DATA"):
        synonym_augmenter()


def test_several_augmenters_are_applied_in_turn(corpus):
    chain = augmenters(mention_augmenter(corpus, level=1.0, fraction=1.0), SynonymAugmenter(1.0, 1.0, 0, synonyms_of))
    (docs,) = changed_by(chain, whole_doc())
    assert len(docs) == 2 and all("broke very soon" in new.text for new in docs) and "Bergen" in docs[1].text
    with pytest.raises(UserError, match="has no augmenter"):
        augmenters()


def test_an_epoch_contains_what_the_augmenter_adds_and_the_heads_train_on_it(tmp_path, tiny):
    docs = [
        gold_doc(NLP, f"The pump {i} in Oslo failed.", ents=[(4, 8, "PART")], cats={"A": i % 2, "B": 1 - i % 2}) for i in range(8)
    ]
    write_docs(docs, tmp_path / "all.spacy")
    same_mention = mention_augmenter(str(tmp_path / "all.spacy"), level=1.0)  # there is only one mention: nothing changes
    paths, sampling = {"all": tmp_path / "all.spacy"}, epochs_per_task({"all": 1})
    plain = MultiTaskCorpus(paths, sampling, 0)
    unchanged = MultiTaskCorpus(paths, sampling, 0, augmenter=same_mention)
    assert [eg.text for eg in unchanged(NLP)] == [eg.text for eg in plain(NLP)]
    noisy = MultiTaskCorpus(paths, sampling, 0, augmenter=noise_augmenter(1.0, 0.0, 0.0, 1.0))
    nlp = make_nlp(tiny(), ("textcat", "ner"), lambda nlp: list(noisy(nlp)))
    examples = list(noisy(nlp))
    assert len(examples) == 8 and all(eg.reference.text.isupper() and eg.predicted.text.isupper() for eg in examples)
    losses = nlp.update(examples)
    assert losses["ner"] > 0 and losses["textcat"] > 0


CONFIG = """
[nlp]
lang = "en"
pipeline = []
[corpora]
[corpora.train]
@readers = "mtl.MultiTaskCorpus.v1"
[corpora.train.paths]
all = {source}
[corpora.train.augmenter]
@augmenters = "mtl.Augmenters.v1"
[corpora.train.augmenter.*.mentions]
@augmenters = "mtl.MentionAugmenter.v1"
source = {source}
level = 1.0
[corpora.train.augmenter.*.noise]
@augmenters = "mtl.NoiseAugmenter.v1"
level = 0.5
[training]
train_corpus = "corpora.train"
"""


def test_preview_shows_changed_documents_of_a_config(tmp_path, corpus, capsys):
    from mtl.cli.app import app

    path = tmp_path / "config.cfg"
    path.write_text(CONFIG.format(source=json.dumps(corpus)))
    app(["augment", str(path), "--pairs", "1"], standalone_mode=False)
    output = capsys.readouterr().out
    assert output.count("before  ") == 1 == output.count("after   ") and "«" in output and "|PART]" in output
    assert "annotation: ner" in output
    off = [f"corpora.train.augmenter.*.{name}.level=0" for name in ("mentions", "noise")]
    app(["augment", str(path), "--set", off[0], "--set", off[1]], standalone_mode=False)
    assert "did not change any document" in capsys.readouterr().out
    before, _, rest = path.read_text().partition("[corpora.train.augmenter]")
    path.write_text(before + "[training]" + rest.partition("[training]")[2])
    with pytest.raises(UserError, match=r"config.cfg: \[corpora.train.augmenter\] is not set"):
        app(["augment", str(path)], standalone_mode=False)


def test_a_pair_shows_context_changed_words_and_entities():
    doc = gold_doc(NLP, "word " * 40 + "The pump in Oslo failed.", ents=[(204, 208, "PART")])
    lines = pair_lines(doc, rewritten(doc, [Edit(41, 42, ("air ", "fan"))]))
    assert lines[0].startswith("before  ... word") and lines[0].endswith("The [«pump»|PART] in Oslo failed.")
    assert lines[1].endswith("The [«air» «fan»|PART] in Oslo failed.") and lines[2].endswith("annotation: ner")
