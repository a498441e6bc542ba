"""The encoder: windows, alignment, families, prompts, precision, threads."""

import numpy as np
import pytest
import spacy
import torch
from conftest import FAMILIES, TEXTS, save_tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.encoder.loaders import huggingface_loader, load_encoder, save_encoder
from mtl.encoder.model.encoder import Encoder, EncoderSettings
from mtl.encoder.model.subwords import TokenizedText
from mtl.encoder.model.windows import most_central, window_of_pairs, window_starts
from mtl.encoder.pretrained.architecture import ATTENTION_DROPOUT
from mtl.encoder.texts import tokenized_texts
from mtl.errors import UserError

NLP = spacy.blank("en")


def load(folder, **kwargs) -> Encoder:
    return Encoder(*huggingface_loader(folder)(), EncoderSettings(**{"device": "cpu", **kwargs}))


def docs_of(texts):
    return tokenized_texts([NLP.make_doc(text) for text in texts])


@given(st.integers(0, 400), st.integers(1, 50), st.integers(0, 60))
def test_windows_cover_everything_and_are_full(count, size, overlap):
    starts = window_starts(count, size, overlap)
    covered = np.zeros(count, dtype=bool)
    for start in starts:
        covered[start : start + size] = True
        assert start + min(size, count) <= count
    assert covered.all() and (np.diff(starts) > 0).all()
    if count > size:
        assert all(a + size - b >= min(overlap, size - 1) for a, b in zip(starts, starts[1:]))


@given(st.integers(1, 300), st.integers(2, 40), st.integers(0, 39))
def test_a_subword_is_read_where_it_is_most_central(count, size, overlap):
    starts = window_starts(count, size, overlap)
    best = most_central(count, starts, size)
    for subword in range(count):
        margins = [min(subword - s, s + size - 1 - subword) if s <= subword < s + size else -1 for s in starts]
        assert margins[best[subword]] >= max(margins) - (count <= size), (subword, margins, best[subword])


def test_all_subwords_of_a_token_come_from_one_window():
    starts = window_starts(20, 10, 4)
    token = np.array([0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 5, 6, 7, 8, 9, 9])
    window = window_of_pairs(token, np.arange(20), starts, 10, 20)
    for index in set(token):
        assert len(set(window[token == index])) == 1


def brute_force_alignment(encoder, doc):
    """Each token's vector by a slow loop over a single window with the whole text."""
    tokenizer = encoder.tokenizer
    encoding = tokenizer.backend_tokenizer.encode(doc.text, add_special_tokens=False)
    before, after = encoder.template.ends([])
    ids = torch.tensor([[*before, *encoding.ids, *after]])
    with torch.inference_mode():
        hidden = encoder.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
    rows = []
    for start, end in zip(doc.starts, doc.ends):
        is_text = not doc.text[start:end].isspace()
        subwords = [len(before) + i for i, (s, e) in enumerate(encoding.offsets) if is_text and s < end and e > start and e > s]
        rows.append(hidden[subwords].mean(0) if subwords else torch.zeros(encoder.width))
    return torch.stack(rows) if rows else torch.zeros(0, encoder.width)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_family_loads_and_aligns(tiny, family, tmp_path):
    encoder = load(tiny(family))
    texts = [*TEXTS[:3], "", "  \n ", "👩‍🔧 é́ \u200b ok", "x"]
    docs = docs_of(texts)
    encoded = encoder.encode(docs)
    assert encoded.lengths.tolist() == [len(doc.starts) for doc in docs]
    assert torch.isfinite(encoded.vectors).all()
    for doc, start, length in zip(docs, encoded.starts, encoded.lengths):
        expected = brute_force_alignment(encoder, doc)
        torch.testing.assert_close(encoded.vectors[start : start + length], expected, atol=1e-5, rtol=1e-4)
    save_encoder(encoder, tmp_path / "encoder")
    again = Encoder(*load_encoder(tmp_path / "encoder"), encoder.settings)
    assert torch.equal(again.encode(docs).vectors, encoded.vectors)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_prompts_change_the_vectors_and_keep_the_tokens(tiny, family):
    encoder = load(tiny(family))
    docs = docs_of(TEXTS[:2])
    first, second = (encoder.encode(docs, [prompt, prompt]) for prompt in ("What failed?", "Where was it?"))
    assert first.vectors.shape == encoder.encode(docs).vectors.shape
    assert not torch.allclose(first.vectors, second.vectors)
    assert not torch.allclose(first.summaries, second.summaries)


def test_a_prompt_is_encoded_as_the_tokenizer_encodes_a_pair(tiny):
    encoder = load(tiny("bert"))
    text, prompt = TEXTS[1], "What was replaced?"
    inputs = encoder.tokenizer(prompt, text, return_tensors="pt")
    with torch.inference_mode():
        expected = encoder.model(**inputs).last_hidden_state[0]
    encoded = encoder.encode(docs_of([text]), [prompt])
    torch.testing.assert_close(encoded.summaries[0], expected[0], atol=1e-5, rtol=1e-4)
    first = inputs.char_to_token(0, 0, sequence_index=1)
    last = inputs.char_to_token(0, len("Replaced") - 1, sequence_index=1)
    torch.testing.assert_close(encoded.vectors[0], expected[first : last + 1].mean(0), atol=1e-5, rtol=1e-4)


@given(st.text(max_size=80))
def test_the_encoder_gets_the_text_of_a_doc_and_its_tokens(text):
    doc = NLP.make_doc(text)
    (tokens,) = tokenized_texts([doc])
    assert tokens.text == doc.text == text
    assert [text[s:e] for s, e in zip(tokens.starts, tokens.ends)] == [token.text for token in doc]


def test_the_window_is_right_where_positions_count_from_the_padding_index(tiny):
    assert load(tiny("bert")).window == 64
    assert load(tiny("roberta")).window == 64  # of 66 positions
    assert load(tiny("mpnet")).window == 64
    assert load(tiny("gpt2")).window == 64


def test_long_documents_lose_nothing(tiny):
    encoder = load(tiny(), window=32, overlap=8)
    long = " ".join(TEXTS * 40)
    docs = docs_of([long, "short"])
    encoded = encoder.encode(docs)
    words = [doc.text[start:end] for doc in docs for start, end in zip(doc.starts, doc.ends)]
    lost = {word for word, aligned in zip(words, encoded.aligned) if not aligned}
    assert lost == {"\u200d"}  # the joiner within an emoji, which the tokenizer itself drops
    assert torch.equal(encoded.vectors.abs().sum(1) > 0, torch.from_numpy(encoded.aligned))


def test_the_batch_around_a_document_does_not_change_it(tiny):
    encoder = load(tiny(), window=32, overlap=8, max_batch_subwords=256)
    docs = docs_of([*TEXTS, " ".join(TEXTS * 5), "", "a"])
    together = encoder.encode(docs)
    for i, doc in enumerate(docs):
        alone = encoder.encode([doc])
        torch.testing.assert_close(together.select([i]).vectors, alone.vectors, atol=1e-5, rtol=1e-4)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(alphabet=st.characters(blacklist_categories=("Cs",)), max_size=60), max_size=4))
def test_any_text_aligns(tiny_encoders, texts):
    for encoder in tiny_encoders:
        docs = docs_of(texts)
        encoded = encoder.encode(docs)
        assert len(encoded.vectors) == sum(len(doc.starts) for doc in docs) == len(encoded.aligned)
        assert torch.isfinite(encoded.vectors).all()


@pytest.fixture(scope="module")
def tiny_encoders(tiny):
    return [load(tiny(family), window=24, overlap=6) for family in ("bert", "roberta", "deberta-v2", "gpt2")]


def test_bf16_is_close_and_prediction_leaves_the_mode_alone(tiny):
    docs = docs_of(TEXTS)
    encoder = load(tiny())
    encoded = encoder.encode(docs)
    rounded = load(tiny(), precision="bf16").encode(docs)
    exact, rough = encoded.vectors[encoded.aligned], rounded.vectors[encoded.aligned]
    assert rough.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(exact, rough).min() > 0.999
    assert not encoder.training and not torch.equal(exact, rough)


def test_frozen_layers_take_no_gradient(tiny):
    encoder = load(tiny(), frozen_layers=1)
    frozen = {name for name, p in encoder.model.named_parameters() if not p.requires_grad}
    assert any("embeddings" in name for name in frozen) and any("layer.0" in name for name in frozen)
    assert not any("layer.1" in name for name in frozen)


@pytest.mark.parametrize(
    "settings_, words",
    [
        ({"precision": "fp8"}, ["precision", "'bf16'"]),
        ({"window": 999}, ["window = 999", "64"]),
        ({"frozen_layers": 9}, ["frozen_layers = 9", "2 layers"]),
        ({"overlap": -1}, ["overlap"]),
        ({"window": 48, "overlap": 25}, ["overlap = 25", "window = 48", "0 to 24"]),
        ({"window": 10, "overlap": 1}, ["window = 10", "18"]),
        ({"device": "gpu"}, ["device = 'gpu'", "auto, cpu, cuda"]),
        ({"device": "cuda:77"}, ["device = 'cuda:77'", "auto, cpu, cuda"]),
    ],
)
def test_an_error_names_the_bad_setting_and_what_is_allowed(tiny, settings_, words):
    with pytest.raises(UserError) as error:
        load(tiny(), **settings_)
    assert all(word in str(error.value) for word in words)


def test_a_question_that_does_not_fit_the_window_is_refused(tiny):
    with pytest.raises(UserError, match="too many for window = 64"):
        load(tiny()).encode(docs_of(TEXTS[:1]), ["why " * 100])


def test_a_folder_that_lacks_its_tokenizer_or_does_not_exist_is_refused(tiny, tmp_path):
    folder = save_tiny("bert", tmp_path / "encoder")
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (tmp_path / "encoder" / file).unlink()
    with pytest.raises(UserError, match="no tokenizer"):
        huggingface_loader(folder)()
    with pytest.raises(UserError, match="no such folder"):
        huggingface_loader(str(tmp_path / "nowhere"))()


def test_a_document_with_several_prompts_gets_the_vectors_of_one(tiny):
    encoder = load(tiny())
    doc = docs_of(TEXTS[:1])[0]
    twice = encoder.encode([doc, doc], ["a", "b"])
    once = encoder.encode([TokenizedText(doc.text, doc.starts, doc.ends)], ["b"])
    torch.testing.assert_close(twice.select([1]).vectors, once.vectors, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_of_attention_weights_is_what_the_loader_says(tiny, family):
    """0 by default, since fused attention on a CPU does not support it; dropout of hidden states stays the checkpoint's."""
    folder = tiny(family)
    for rate in (0.0, 0.3):
        model, _ = huggingface_loader(folder, rate)()
        in_config = [value for name in ATTENTION_DROPOUT if (value := getattr(model.config, name, None)) is not None]
        assert in_config == [rate]
        in_modules = [value for module in model.modules() if isinstance(value := getattr(module, "dropout_prob", None), float)]
        assert set(in_modules) <= {rate}
    with pytest.raises(UserError, match="attention_dropout = 2"):
        huggingface_loader(folder, 2.0)


def test_the_loader_sets_dropout_and_gives_top_layers_random_weights(tiny):
    plain, _ = huggingface_loader(tiny())()
    changed, _ = huggingface_loader(tiny(), dropout=0.3, reinit_layers=1)()
    assert changed.config.hidden_dropout_prob == 0.3 and changed.config.attention_probs_dropout_prob == 0.0
    differs = {name for (name, a), b in zip(plain.named_parameters(), changed.parameters()) if not torch.equal(a, b)}
    assert differs and all("layer.1." in name for name in differs)
    assert any("intermediate" in name for name in differs) and any("attention" in name for name in differs)
    with pytest.raises(UserError, match="reinit_layers = 9 is more than the encoder's 2 layers"):
        huggingface_loader(tiny(), reinit_layers=9)()
    with pytest.raises(UserError, match="dropout = 2"):
        huggingface_loader(tiny(), dropout=2.0)
