"""Augmenters that run a model: masked language models and back-translation."""

import pytest
from augment_helpers import ANNOTATED, NLP, TEXT, changed_by, whole_doc
from conftest import gold_doc, save_tiny, wordpiece_tokenizer
from spacy.tokens import Doc
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from mtl.augment.back_translation import back_translation_augmenter
from mtl.augment.masked import masked_augmenter
from mtl.augment.rewrite import annotations_of
from mtl.errors import UserError
from mtl.tasks.regressor.task import gold_number


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    """A tiny masked language model that has its head, and finds a few whole words likely."""
    folder = str(tmp_path_factory.mktemp("mlm") / "encoder")
    save_tiny("bert", folder)
    tokenizer = wordpiece_tokenizer()
    model = AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(folder))
    for word in ("the", "cre", "ops"):  # subwords that are words by themselves
        model.get_output_embeddings().bias.data[tokenizer.convert_tokens_to_ids(word)] = 20.0
    model.save_pretrained(folder)
    return folder


def test_words_from_a_masked_language_model(language_model):
    """It replaces only whole words outside of entities and answers; annotation that may no longer be valid is dropped."""
    augmenter = masked_augmenter(language_model, level=1.0, fraction=1.0, candidates=3, device="cpu")
    (docs,) = changed_by(augmenter, whole_doc())
    first, new = docs
    assert first.text == TEXT and annotations_of(new) == {"ner"} and [ent.text for ent in new.ents] == ["pump", "Oslo"]
    replaced = [(old.text, word.text) for old, word in zip(whole_doc(), new) if old.text != word.text]
    assert [old for old, _ in replaced] == ["failed", "quickly", "replaced"]
    assert {word for _, word in replaced} <= {"cre", "ops"}  # "the" is as likely, and a stop word
    assert [new.text for new in changed_by(masked_augmenter(language_model, 1.0, 1.0, 3, device="cpu"), whole_doc())[0]] == [
        first.text, new.text
    ]  # fmt: skip


def test_more_annotation_is_kept_if_asked(language_model):
    keep = ["ner", "textcat"]
    (docs,) = changed_by(masked_augmenter(language_model, 1.0, 1.0, 3, keep, device="cpu"), whole_doc())
    assert annotations_of(docs[1]) == {"ner", "textcat"} and docs[1].cats == ANNOTATED["cats"]
    with pytest.raises(UserError, match=r"keep names cats; allowed: .*textcat"):
        masked_augmenter(language_model, keep=["cats"])


def test_a_document_with_nothing_to_learn_is_not_added(language_model):
    doc = gold_doc(NLP, TEXT, cats={"A": 1.0})
    (docs,) = changed_by(masked_augmenter(language_model, level=1.0, fraction=1.0, device="cpu"), doc)
    assert [new.text for new in docs] == [TEXT]


def test_words_beyond_the_first_window_are_replaced(language_model):
    """Every word of a document that is far longer than the encoder's window (62 subwords)."""
    doc = gold_doc(NLP, "zonk " * 100 + "end.", ents=[])
    ((new,),) = changed_by(masked_augmenter(language_model, 1.0, 1.0, 3, device="cpu"), doc)
    assert len(new) == len(doc) and "zonk" not in new.text


def test_a_subword_over_two_tokens_does_not_hide_what_follows(language_model):
    """spaCy splits "ops" in two here: the masked word ends inside a subword, and what follows is still read."""
    doc = Doc(NLP.vocab, words=["op", "s", "zonk", "[MASK]", "zonk", "end"], spaces=[False, True, True, True, True, False])
    doc.set_ents([], default="outside")
    augmenter = masked_augmenter(language_model, 1.0, 1.0, 3, device="cpu")
    ((new,),) = changed_by(augmenter, doc)
    assert [token.text for token in new][3] == "[MASK]" and "zonk" not in new.text and len(new) == len(doc)


def test_a_language_model_without_its_head_is_refused(tiny):
    with pytest.raises(UserError, match=r"its language-model head is not trained .*`mtl adapt` trains one"):
        changed_by(masked_augmenter(tiny(), level=1.0, device="cpu"), whole_doc())


@pytest.fixture(scope="module")
def translator(tmp_path_factory):
    """The folder of a tiny random sequence-to-sequence model."""
    folder = tmp_path_factory.mktemp("seq2seq") / "model"
    tokenizer = wordpiece_tokenizer()
    tokenizer.save_pretrained(folder)
    config = AutoConfig.for_model(
        "bart", vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=200, pad_token_id=0,
        bos_token_id=2, eos_token_id=3, decoder_start_token_id=2, forced_eos_token_id=3,
    )  # fmt: skip
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(folder)
    return str(folder)


def test_back_translation_keeps_only_the_annotation_of_whole_documents(translator):
    """The text is what two tiny random models generate, sentence by sentence."""
    augmenter = back_translation_augmenter(translator, translator, level=1.0, device="cpu")
    doc, entities = whole_doc(), gold_doc(NLP, TEXT, ents=ANNOTATED["ents"])
    (first, new), (untouched,) = changed_by(augmenter, doc, entities)
    assert first.text == TEXT and annotations_of(new) == {"textcat", "regressor"}
    assert new.cats == doc.cats and gold_number(new) == 2.5
    assert untouched.text == TEXT and new.text != TEXT

    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(translator).eval(), wordpiece_tokenizer()
    text = TEXT
    for _ in range(2):
        inputs = tokenizer([text], return_tensors="pt", truncation=True, max_length=200)["input_ids"]
        outputs = model.generate(input_ids=inputs, max_new_tokens=min(16 + 2 * inputs.shape[1], 199), do_sample=False)
        text = tokenizer.batch_decode(outputs, skip_special_tokens=True)[0].strip()
    assert new.text == text


def test_a_translation_model_that_cannot_be_loaded_is_named(translator, tmp_path):
    missing = str(tmp_path / "no/such/folder")
    with pytest.raises(UserError, match=r"no/such/folder': no translation model can be loaded from there"):
        changed_by(back_translation_augmenter(missing, translator, level=1.0), whole_doc())
