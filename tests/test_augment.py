"""What augmenters change, and that what a changed document is annotated with still holds."""

import json
import random

import pytest
import spacy
from conftest import DATA, gold_doc, make_nlp, save_tiny, wordpiece_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training import Example
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from mtl.augment.augmenter import augmenters
from mtl.augment.back_translation import back_translation_augmenter
from mtl.augment.masked import masked_augmenter
from mtl.augment.mentions import mention_augmenter
from mtl.augment.noise import noise_augmenter
from mtl.augment.preview import pair_lines
from mtl.augment.rewrite import Edit, free_words, kinds_of, like, rewritten
from mtl.augment.synonyms import Synonyms, synonym_augmenter
from mtl.augment.tokens import token_augmenter
from mtl.data.docs import gold_number, gold_questions, set_gold_number, write_docs
from mtl.errors import UserError
from mtl.mixture.amounts import passes
from mtl.mixture.reader import MixedCorpus

NLP = spacy.blank("en")
TEXT = "The pump in Oslo failed quickly and was not replaced."
ANNOTATED = {
    "cats": {"A": 1.0, "B": 0.0}, "ents": [(4, 8, "PART"), (12, 16, "LOC")], "qas": {"What failed?": "The pump", "Who?": None}
}  # fmt: skip


def whole_doc():
    doc = gold_doc(NLP, TEXT, **ANNOTATED)
    set_gold_number(doc, 2.5)
    for token in doc:
        token.tag_ = f"T{token.i}"
    return doc


def changed_by(augmenter, *docs):
    """The references that come of each document."""
    return [[example.reference for example in augmenter(NLP, Example(NLP.make_doc(doc.text), doc))] for doc in docs]


def held(doc):
    return {
        "ents": [(ent.text, ent.label_) for ent in doc.ents], "cats": dict(doc.cats), "questions": gold_questions(doc),
        "answers": [(span.text, span.id_) for span in doc.spans["qa"]], "score": gold_number(doc),
    }  # fmt: skip


def test_one_word_for_another():
    new = rewritten(whole_doc(), [Edit(5, 6, ("very ", "soon "))])
    assert new.text == "The pump in Oslo failed very soon and was not replaced."
    assert held(new) == held(whole_doc())
    assert [token.tag_ for token in new][4:8] == ["T4", "", "", "T6"]


def test_a_mention_of_other_length_moves_what_comes_after():
    new = rewritten(whole_doc(), [Edit(1, 2, ("air ", "cycle ", "machine")), Edit(2, 3, ())])
    assert new.text == "The air cycle machine Oslo failed quickly and was not replaced."
    assert [(ent.text, ent.label_) for ent in new.ents] == [("air cycle machine", "PART"), ("Oslo", "LOC")]
    assert [(span.text, span.id_) for span in new.spans["qa"]] == [("The air cycle machine", "q0")]


def test_only_what_is_kept_is_there():
    new = rewritten(whole_doc(), [], keep=("entities",))
    assert kinds_of(whole_doc()) == {"categories", "entities", "questions", "score", "tags"} and kinds_of(new) == {"entities"}
    assert not new.cats and "qa" not in new.spans and gold_number(new) is None and not new.has_annotation("TAG")


def test_an_edit_within_an_entity_or_over_its_bounds():
    doc = gold_doc(NLP, "the air cycle machine failed", ents=[(4, 21, "PART")])
    assert [ent.text for ent in rewritten(doc, [Edit(2, 3, ("cooling ",))]).ents] == ["air cooling machine"]
    assert not rewritten(doc, [Edit(1, 4, ())]).ents
    with pytest.raises(ValueError, match="crosses the bounds of 'air cycle machine'"):
        rewritten(doc, [Edit(0, 2, ("x",))])
    with pytest.raises(ValueError, match="overlaps"):
        rewritten(doc, [Edit(0, 2, ()), Edit(1, 3, ())])


def test_dependencies_stay_where_words_stand_for_words():
    doc = Doc(NLP.vocab, words=["pumps", "fail", "often"], heads=[1, 1, 1], deps=["nsubj", "ROOT", "advmod"])
    same, longer = rewritten(doc, [Edit(2, 3, ("rarely",))]), rewritten(doc, [Edit(2, 3, ("very ", "often"))])
    assert [token.head.i for token in same] == [1, 1, 1] and [token.dep_ for token in same] == ["nsubj", "ROOT", "advmod"]
    assert not longer.has_annotation("DEP")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**32))
def test_annotation_moves_with_its_words(length, seed):
    """Words outside of spans come and go; every entity, answer and missing token has the words that it had."""
    chance = random.Random(seed)
    doc = Doc(NLP.vocab, words=[f"w{i}" for i in range(length)], spaces=[chance.random() < 0.8 for _ in range(length)])
    bounds = sorted(chance.sample(range(length + 1), min(length + 1, 4)))
    spans = [Span(doc, a, b, label="X") for a, b in zip(bounds[::2], bounds[1::2])]
    doc.set_ents(spans[:1], missing=spans[1:], default="outside")
    doc.spans["qa"] = SpanGroup(doc, name="qa", spans=spans, attrs={"questions": {}})
    taken = {i for span in spans for i in range(span.start, span.end)}
    edits = [
        Edit(i, i + 1, tuple(f"n{chance.randrange(9)} " for _ in range(chance.randrange(3))))
        for i in range(length) if i not in taken and chance.random() < 0.5
    ]  # fmt: skip
    new = rewritten(doc, edits)
    assert len(new) == length + sum(len(edit.words) - 1 for edit in edits)
    words = [[token.text for token in span] for span in spans]
    assert [[token.text for token in span] for span in new.spans["qa"]] == words
    assert [[token.text for token in ent] for ent in new.ents] == words[:1]
    assert [token.text for token in new if token.ent_iob == 0] == [token.text for token in doc if token.ent_iob == 0]


def test_the_case_of_the_word_that_was_there():
    assert [like("rapid", word) for word in ("quick", "Quick", "QUICK", "A")] == ["rapid", "Rapid", "RAPID", "Rapid"]


def synonyms_of(word):
    return {"quickly": ["very soon"], "failed": ["broke"], "pump": ["heart"]}.get(word, [])


def test_synonyms_never_stand_in_an_entity_or_answer():
    (found,) = changed_by(Synonyms(1.0, 1.0, 0, synonyms_of), whole_doc())
    assert [new.text for new in found] == ["The pump in Oslo broke very soon and was not replaced."]
    assert held(found[0]) == held(whole_doc())
    nothing = gold_doc(NLP, "The pump is here.", ents=[(4, 8, "PART")])
    assert [new.text for (new,) in changed_by(Synonyms(1.0, 1.0, 0, synonyms_of), nothing)] == [nothing.text]


def test_level_and_seed():
    docs = [gold_doc(NLP, f"It failed quickly {i}.", cats={"A": 1.0}) for i in range(200)]
    first, again, other = (
        [new.text for (new,) in changed_by(Synonyms(0.3, 0.5, seed, synonyms_of), *docs)] for seed in (0, 0, 1)
    )
    assert first == again != other
    assert 35 < sum(text != doc.text for text, doc in zip(first, docs)) < 85


@pytest.fixture
def corpus(tmp_path):
    docs = [
        gold_doc(NLP, "The left engine at Bergen burnt.", ents=[(4, 15, "PART"), (19, 25, "LOC")]),
        gold_doc(NLP, "A valve leaked.", ents=[(2, 7, "PART")]),
        gold_doc(NLP, "Nothing here.", cats={"A": 1.0}),
    ]
    write_docs(docs, tmp_path / "train.spacy")
    return str(tmp_path / "train.spacy")


def test_mentions_from_the_training_documents(corpus):
    """Categories and answers may depend on what was named: they stay with the document as it was."""
    (found,) = changed_by(mention_augmenter(corpus, level=1.0, share=1.0), whole_doc())
    first, new = found
    assert held(first) == held(whole_doc()) and kinds_of(new) == {"entities"}
    assert {ent.text for ent in new.ents if ent.label_ == "PART"} <= {"left engine", "valve"}
    assert [ent.text for ent in new.ents if ent.label_ == "LOC"] == ["Bergen"] and "Oslo" not in new.text


def test_mentions_from_a_gazetteer(tmp_path):
    (tmp_path / "parts.jsonl").write_text('{"label": "PART", "pattern": "fuel control unit"}\n\n')
    augmenter = mention_augmenter(gazetteer=str(tmp_path / "parts.jsonl"), level=1.0, share=1.0, keep=["entities", "categories"])
    only_entities = gold_doc(NLP, TEXT, ANNOTATED["cats"], ANNOTATED["ents"])
    (found,) = changed_by(augmenter, only_entities)
    assert [(new.text, new.cats) for new in found] == [(TEXT.replace("pump", "fuel control unit"), ANNOTATED["cats"])]
    assert [ent.text for ent in found[0].ents] == ["fuel control unit", "Oslo"]
    (tmp_path / "parts.jsonl").write_text('{"label": "PART", "pattern": "x"}\n{"label": "PART"}')
    with pytest.raises(UserError, match=r"parts.jsonl, line 2: not of the form"):
        mention_augmenter(gazetteer=str(tmp_path / "parts.jsonl"))
    (tmp_path / "parts.jsonl").write_text('{"label": "PART", "pattern": " fuel  pump "}')
    augmenter = mention_augmenter(gazetteer=str(tmp_path / "parts.jsonl"), level=1.0, share=1.0)
    assert changed_by(augmenter, gold_doc(NLP, TEXT, ents=ANNOTATED["ents"]))[0][0].ents[0].text == "fuel pump"
    with pytest.raises(UserError, match=r"needs entities: set source, gazetteer, or both"):
        mention_augmenter()
    with pytest.raises(UserError, match=r"keep names cats; allowed: categories, entities"):
        mention_augmenter(corpus, keep=["cats"])


def test_what_a_question_names_is_not_replaced(corpus):
    doc = gold_doc(
        NLP, "The pump in Oslo failed.", ents=[(4, 8, "PART"), (12, 16, "LOC")], qas={"Where did the pump fail?": "Oslo"}
    )
    (found,) = changed_by(mention_augmenter(corpus, level=1.0, share=1.0, keep=["entities", "questions"]), doc)
    assert [new.text for new in found] == ["The pump in Bergen failed."]
    assert [span.text for span in found[0].spans["qa"]] == ["Bergen"]


def test_tokens_of_the_same_label(corpus):
    doc = gold_doc(NLP, TEXT, **{**ANNOTATED, "qas": None})
    (found,) = changed_by(token_augmenter(corpus, level=1.0, share=1.0), doc)
    first, new = found
    assert first.text == TEXT and kinds_of(new) == {"entities"}
    assert new[1].text in ("left", "valve") and new[3].text == "Bergen" and [ent.label_ for ent in new.ents] == ["PART", "LOC"]
    assert {new[i].text for i in (0, 2, 4, 5)} <= {"The", "at", "burnt", "A", "leaked"} and new[10].text == "."
    unlabelled = gold_doc(NLP, TEXT, cats={"A": 1.0})
    assert [new.text for (new,) in changed_by(token_augmenter(corpus, level=1.0), unlabelled)] == [TEXT]


def test_an_entity_in_which_another_span_begins_stays(corpus):
    """An answer, or a span of spancat, may be a part of an entity; where it is kept too, the entity is not replaced."""
    ents = [(4, 21, "PART"), (25, 29, "LOC")]
    doc = gold_doc(NLP, "The air cycle machine at Oslo failed.", ents=ents, qas={"Which?": "cycle machine"})
    keep = ["entities", "questions"]
    (found,) = changed_by(mention_augmenter(corpus, level=1.0, share=1.0, keep=keep), doc)
    assert [new.text for new in found] == ["The air cycle machine at Bergen failed."]
    assert [span.text for span in found[0].spans["qa"]] == ["cycle machine"]
    ((first, new),) = changed_by(mention_augmenter(corpus, level=1.0, share=1.0), doc)
    assert first.text == doc.text and "air cycle" not in new.text and kinds_of(new) == {"entities"}
    doc = gold_doc(NLP, "The air cycle machine at Oslo failed.", ents=ents)
    doc.spans["sc"] = [doc[2:4]]
    (found,) = changed_by(mention_augmenter(corpus, level=1.0, share=1.0), doc)
    assert [new.text for new in found] == ["The air cycle machine at Bergen failed."]


def test_lemmas_morphology_and_sentences():
    """They stay where words stand for words; else the document as it was stays, too."""
    doc = Doc(NLP.vocab, words=["It", "failed", "quickly", "."], lemmas=["it", "fail", "quickly", "."],
              morphs=["", "Tense=Past", "", ""], sent_starts=[True, False, False, False])  # fmt: skip
    doc.cats = {"A": 1.0}
    assert kinds_of(doc) == {"categories", "tags", "sentences"}
    same = rewritten(doc, [Edit(2, 3, ("slowly",))])
    assert kinds_of(same) == kinds_of(doc) and [token.lemma_ for token in same] == ["it", "fail", "quickly", "."]
    assert str(same[1].morph) == "Tense=Past" and [token.is_sent_start for token in same] == [True, False, False, False]
    (found,) = changed_by(Synonyms(1.0, 1.0, 0, lambda word: ["very soon"] if word == "quickly" else []), doc)
    assert [kinds_of(new) for new in found] == [kinds_of(doc), {"categories", "tags"}]


def test_a_document_with_nothing_to_learn_is_not_added(language_model):
    doc = gold_doc(NLP, TEXT, cats={"A": 1.0})
    (found,) = changed_by(masked_augmenter(language_model, level=1.0, share=1.0, device="cpu"), doc)
    assert [new.text for new in found] == [TEXT]


def test_noise_keeps_negations_entities_and_answers():
    (found,) = changed_by(noise_augmenter(1.0, stop_words=1.0, lower=0.0, upper=1.0), whole_doc())
    assert [new.text for new in found] == ["THE PUMP OSLO FAILED QUICKLY NOT REPLACED."]
    assert [ent.text for ent in found[0].ents] == ["PUMP", "OSLO"] and held(found[0])["answers"] == [("THE PUMP", "q0")]
    (found,) = changed_by(noise_augmenter(1.0, stop_words=0.0, lower=1.0, upper=0.0), whole_doc())
    assert [new.text for new in found] == [TEXT.lower()] and kinds_of(found[0]) == kinds_of(whole_doc())
    with pytest.raises(UserError, match=r"lower = 0.7 and upper = 0.6: together they are at most 1"):
        noise_augmenter(lower=0.7, upper=0.6)
    with pytest.raises(UserError, match=r"\[corpora.train.augmenter\] level = 2"):
        noise_augmenter(2)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    """A tiny masked language model that has its head, and holds few whole words likely."""
    folder = str(tmp_path_factory.mktemp("mlm") / "encoder")
    save_tiny("bert", folder)
    tokenizer = wordpiece_tokenizer()
    model = AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(folder))
    for word in ("the", "cre", "ops"):  # pieces that are words by themselves
        model.get_output_embeddings().bias.data[tokenizer.convert_tokens_to_ids(word)] = 20.0
    model.save_pretrained(folder)
    return folder


def test_words_from_a_masked_language_model(language_model):
    """It finds whole words alone, outside of entities and answers; what it may have turned is dropped."""
    augmenter = masked_augmenter(language_model, level=1.0, share=1.0, candidates=3, device="cpu")
    (found,) = changed_by(augmenter, whole_doc())
    first, new = found
    assert first.text == TEXT and kinds_of(new) == {"entities"} and [ent.text for ent in new.ents] == ["pump", "Oslo"]
    replaced = [(old.text, word.text) for old, word in zip(whole_doc(), new) if old.text != word.text]
    assert [old for old, _ in replaced] == ["failed", "quickly", "replaced"]
    assert {word for _, word in replaced} <= {"cre", "ops"}  # "the" is as likely, and a stop word
    assert [new.text for new in changed_by(masked_augmenter(language_model, 1.0, 1.0, 3, device="cpu"), whole_doc())[0]] == [
        first.text, new.text
    ]  # fmt: skip


def test_masked_words_beyond_the_first_window(language_model):
    """Every word of a document that is far longer than the encoder's window (62 wordpieces)."""
    doc = gold_doc(NLP, "zonk " * 100 + "end.", ents=[])
    ((new,),) = changed_by(masked_augmenter(language_model, 1.0, 1.0, 3, device="cpu"), doc)
    assert len(new) == len(doc) and "zonk" not in new.text


def test_a_wordpiece_over_two_tokens(language_model):
    """spaCy cuts "ops" in two here: the masked word ends within a wordpiece, and what follows is still read."""
    doc = Doc(NLP.vocab, words=["op", "s", "zonk", "[MASK]", "zonk", "end"], spaces=[False, True, True, True, True, False])
    doc.set_ents([], default="outside")
    augmenter = masked_augmenter(language_model, 1.0, 1.0, 3, device="cpu")
    ((new,),) = changed_by(augmenter, doc)
    assert [token.text for token in new][3] == "[MASK]" and "zonk" not in new.text and len(new) == len(doc)


def test_a_language_model_without_its_head(tiny):
    with pytest.raises(UserError, match=r"its language-model head is not trained .*`mtl adapt` trains one"):
        changed_by(masked_augmenter(tiny(), level=1.0, device="cpu"), whole_doc())


def test_back_translation(tmp_path):
    """Two tiny random models: what comes out is what they generate, sentence by sentence; only whole-document labels hold."""
    folder = tmp_path / "seq2seq"
    tokenizer = wordpiece_tokenizer()
    tokenizer.save_pretrained(folder)
    config = AutoConfig.for_model(
        "bart", vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=200, pad_token_id=0,
        bos_token_id=2, eos_token_id=3, decoder_start_token_id=2, forced_eos_token_id=3,
    )  # fmt: skip
    model = AutoModelForSeq2SeqLM.from_config(config)
    model.save_pretrained(folder)
    augmenter = back_translation_augmenter(str(folder), str(folder), level=1.0, device="cpu")
    doc, entities = whole_doc(), gold_doc(NLP, TEXT, ents=ANNOTATED["ents"])
    (first, new), (untouched,) = changed_by(augmenter, doc, entities)
    assert first.text == TEXT and kinds_of(new) == {"categories", "score"} and new.cats == doc.cats and gold_number(new) == 2.5
    assert untouched.text == TEXT and new.text != TEXT

    loaded = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    said = TEXT
    for _ in range(2):
        given = tokenizer([said], return_tensors="pt", truncation=True, max_length=200)["input_ids"]
        ids = loaded.generate(input_ids=given, max_new_tokens=min(16 + 2 * given.shape[1], 199), do_sample=False)
        said = tokenizer.batch_decode(ids, skip_special_tokens=True)[0].strip()
    assert new.text == said
    with pytest.raises(UserError, match=r"no model that translates can be loaded"):
        changed_by(back_translation_augmenter(str(tmp_path / "no/such/folder"), "x", level=1.0), doc)


@pytest.fixture
def wordnet(monkeypatch):
    pytest.importorskip("nltk", reason="needs NLTK: pip install spacy-mtl[augment]")
    if (DATA / "nltk_data").is_dir():
        import nltk

        monkeypatch.setattr(nltk.data, "path", [str(DATA / "nltk_data"), *nltk.data.path])
    try:
        return synonym_augmenter(1.0, 1.0)
    except UserError:
        pytest.skip("needs WordNet: set NLTK_DATA, or MTL_DATA")


def test_synonyms_of_wordnet(wordnet):
    """Base forms of a clear sense alone: no synonym for an inflected form, nor for a word of many senses."""
    assert "MD" not in wordnet.synonyms_of("physician") and "doctor" in wordnet.synonyms_of("physician")
    assert wordnet.synonyms_of("physicians") == [] == wordnet.synonyms_of("xyzzy")
    assert wordnet.synonyms_of("bank") == []
    (found,) = changed_by(wordnet, gold_doc(NLP, "The physician saw the pump.", ents=[(22, 26, "PART")]))
    assert found[0].text.split()[1] != "physician" and [ent.text for ent in found[0].ents] == ["pump"]


def test_wordnet_that_is_not_there(monkeypatch):
    nltk = pytest.importorskip("nltk", reason="needs NLTK: pip install spacy-mtl[augment]")
    from nltk.corpus.util import LazyCorpusLoader

    monkeypatch.setattr(nltk.data, "path", [])
    monkeypatch.setattr("nltk.corpus.wordnet", LazyCorpusLoader("wordnet", nltk.corpus.reader.WordNetCorpusReader, None))
    with pytest.raises(UserError, match=r"needs WordNet: python -m nltk.downloader wordnet, or set NLTK_DATA"):
        synonym_augmenter()


def test_one_after_the_other(corpus):
    chain = augmenters(mention_augmenter(corpus, level=1.0, share=1.0), Synonyms(1.0, 1.0, 0, synonyms_of))
    (found,) = changed_by(chain, whole_doc())
    assert len(found) == 2 and all("broke very soon" in new.text for new in found) and "Bergen" in found[1].text
    with pytest.raises(UserError, match="has no augmenter"):
        augmenters()


def test_in_the_mixture_and_in_training(tmp_path, tiny):
    """An epoch has the documents of its amounts and what the augmenter adds; the heads train on all of it."""
    docs = [
        gold_doc(NLP, f"The pump {i} in Oslo failed.", ents=[(4, 8, "PART")], cats={"A": i % 2, "B": 1 - i % 2}) for i in range(8)
    ]
    write_docs(docs, tmp_path / "all.spacy")
    added = mention_augmenter(str(tmp_path / "all.spacy"), level=1.0)  # the one mention there is: nothing changes
    paths = {"all": tmp_path / "all.spacy"}
    plain = MixedCorpus(paths, passes({"all": 1}), 0)
    assert [eg.text for eg in MixedCorpus(paths, passes({"all": 1}), 0, augmenter=added)(NLP)] == [eg.text for eg in plain(NLP)]
    noisy = MixedCorpus(paths, passes({"all": 1}), 0, augmenter=noise_augmenter(1.0, 0.0, 0.0, 1.0))
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
@readers = "mtl.MixedCorpus.v1"
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


def test_preview(tmp_path, corpus, capsys):
    from mtl.cli.app import app

    path = tmp_path / "config.cfg"
    path.write_text(CONFIG.format(source=json.dumps(corpus)))
    app(["augment", str(path), "--pairs", "1"], standalone_mode=False)
    said = capsys.readouterr().out
    assert (
        said.count("before  ") == 1 == said.count("after   ") and "«" in said and "|PART]" in said and "holds: entities" in said
    )
    off = [f"corpora.train.augmenter.*.{name}.level=0" for name in ("mentions", "noise")]
    app(["augment", str(path), "--set", off[0], "--set", off[1]], standalone_mode=False)
    assert "changed none" in capsys.readouterr().out
    before, _, rest = path.read_text().partition("[corpora.train.augmenter]")
    path.write_text(before + "[training]" + rest.partition("[training]")[2])
    with pytest.raises(UserError, match=r"config.cfg: \[corpora.train.augmenter\] is not set"):
        app(["augment", str(path)], standalone_mode=False)


def test_what_a_pair_shows():
    doc = gold_doc(NLP, "word " * 40 + "The pump in Oslo failed.", ents=[(204, 208, "PART")])
    lines = pair_lines(doc, rewritten(doc, [Edit(41, 42, ("air ", "fan"))]))
    assert lines[0].startswith("before  ... word") and lines[0].endswith("The [«pump»|PART] in Oslo failed.")
    assert lines[1].endswith("The [«air» «fan»|PART] in Oslo failed.") and lines[2].endswith("holds: entities")


def test_free_words():
    doc = gold_doc(NLP, TEXT, **ANNOTATED)
    assert [doc[i].text for i in free_words(doc)] == ["in", "failed", "quickly", "and", "was", "not", "replaced"]
    partly = NLP.make_doc(TEXT)
    partly.set_ents([], missing=[partly[4:6]], default="outside")
    assert "failed" not in [partly[i].text for i in free_words(partly)]
