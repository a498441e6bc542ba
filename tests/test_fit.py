"""Which encoders fit: families that are tested, and those that are refused before anything is trained, with one message."""

import json
import shutil

import pytest
import spacy
import torch
from conftest import (
    DROPOUT,
    SIZES,
    TEXTS,
    byte_tokenizer,
    make_nlp,
    overfit,
    save_tiny,
    unigram_tokenizer,
    wordpiece_tokenizer,
)
from transformers import AutoModel, AutoTokenizer

from mtl.adaptation.objective import load_objective
from mtl.adaptation.run import adapt
from mtl.adaptation.settings import AdaptSettings
from mtl.augment.masked import masked_augmenter
from mtl.encoder.pretrained.architecture import layer_of
from mtl.encoder.texts import tokenized_texts
from mtl.errors import UserError

BERT = {**SIZES, **DROPOUT, "max_position_embeddings": 64}
ROBERTA = {**BERT, "max_position_embeddings": 66, "type_vocab_size": 1, "pad_token_id": 1}
XLM = {"emb_dim": 32, "n_layers": 2, "n_heads": 2, "max_position_embeddings": 64}


def decoder_tokenizer():
    return byte_tokenizer(specials=False)


# Beside those of conftest, which all other tests run on: family -> tokenizer, sizes, layers that it has.
FAMILIES = {
    "albert": (unigram_tokenizer, {**BERT, "embedding_size": 16}, 1),  # one group, whose layers share their weights
    "big_bird": (unigram_tokenizer, {**BERT, "attention_type": "original_full"}, 2),
    "camembert": (unigram_tokenizer, ROBERTA, 2),
    "convbert": (wordpiece_tokenizer, {**BERT, "embedding_size": 16, "head_ratio": 1, "conv_kernel_size": 3}, 2),
    "data2vec-text": (byte_tokenizer, ROBERTA, 2),
    "deberta": (
        byte_tokenizer,
        {**BERT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0,
         "position_biased_input": False},
        2,
    ),
    "ernie": (wordpiece_tokenizer, BERT, 2),
    "llama": (decoder_tokenizer, {**SIZES, "num_key_value_heads": 2, "max_position_embeddings": 64}, 2),
    "longformer": (byte_tokenizer, {**ROBERTA, "attention_window": 16}, 2),
    "megatron-bert": (wordpiece_tokenizer, BERT, 2),
    "mobilebert": (
        wordpiece_tokenizer, {**BERT, "embedding_size": 32, "intra_bottleneck_size": 16, "true_hidden_size": 16}, 2,
    ),
    "qwen2": (decoder_tokenizer, {**SIZES, "num_key_value_heads": 2, "max_position_embeddings": 64}, 2),
    "rembert": (unigram_tokenizer, {**BERT, "input_embedding_size": 16, "output_embedding_size": 16}, 2),
    "roformer": (wordpiece_tokenizer, {**BERT, "embedding_size": 16}, 2),
    "squeezebert": (
        wordpiece_tokenizer,
        {**BERT, "q_groups": 2, "k_groups": 2, "v_groups": 2, "intermediate_groups": 2, "output_groups": 2,
         "intermediate_size": 36, "embedding_size": 32},
        2,
    ),
    "xlm": (unigram_tokenizer, XLM, 2),
    "xlm-roberta": (unigram_tokenizer, ROBERTA, 2),
    "xlnet": (unigram_tokenizer, {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 37}, 2),
}  # fmt: skip
T5 = {"d_model": 32, "d_kv": 16, "d_ff": 37, "num_layers": 2, "num_heads": 2}
REFUSED = {
    "t5": (unigram_tokenizer, T5, "t5 is an encoder-decoder: use an encoder, such as BERT"),
    "bart": (byte_tokenizer, {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1}, "bart is an encoder-decoder"),
    "fnet": (unigram_tokenizer, BERT, "fnet does not encode 16 subwords with an attention mask: TypeError"),
    "reformer": (
        unigram_tokenizer,
        {"hidden_size": 32, "attention_head_size": 16, "num_attention_heads": 2, "axial_pos_embds": False,
         "max_position_embeddings": 64, "attn_layers": ["local"], "feed_forward_size": 37},
        "reformer gives no vector of size 32 for each of 16 subwords",
    ),
    # Its positions are in a layer of another kind, and two of them are never used.
    "ibert": (byte_tokenizer, ROBERTA, "ibert does not encode 66 subwords .* IndexError.* Set a shorter window"),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_and_comes_back_from_disk(family, tmp_path):
    *recipe, layers = FAMILIES[family]
    nlp = make_nlp(
        save_tiny(family, tmp_path / "encoder", recipe), heads=("textcat", "ner", "qa"), model={"window": 64, "overlap": 16}
    )
    encoder = nlp.get_pipe("transformer").encoder
    assert encoder.layers == layers
    losses = overfit(nlp, steps=25)
    assert sum(losses[-1].values()) < 0.8 * sum(losses[0].values())
    nlp.to_disk(tmp_path / "pipeline")
    again = spacy.load(tmp_path / "pipeline")
    text = " ".join(TEXTS * 3)  # several windows
    assert again(text).cats == pytest.approx(nlp(text).cats)
    short, long = nlp.make_doc(TEXTS[0]), nlp.make_doc(text)  # padding changes nothing
    together, alone = encoder.encode(tokenized_texts([short, long])), encoder.encode(tokenized_texts([short]))
    torch.testing.assert_close(together.vectors[: len(short)], alone.vectors, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", REFUSED)
def test_a_family_that_does_not_fit_is_refused_before_training(family, tmp_path):
    *recipe, message = REFUSED[family]
    folder = save_tiny(family, tmp_path / "encoder", recipe)
    with pytest.raises(UserError, match=message):
        make_nlp(folder, heads=("textcat",))


def with_more_words(folder, out):
    """RETURNS an encoder whose tokenizer was given words, and whose model was not."""
    shutil.copytree(folder, out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    tokenizer.add_tokens(["hydraulic", "indication"])
    tokenizer.save_pretrained(out)
    return str(out)


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", "gpt2"])
def test_a_tokenizer_with_words_that_the_model_lacks_is_refused(family, tiny, tmp_path):
    folder = with_more_words(tiny(family), tmp_path / "encoder")
    with pytest.raises(UserError, match=r"2 subwords that the model lacks, 'hydraulic', 'indication' among them"):
        make_nlp(folder, heads=("textcat",))
    with pytest.raises(UserError, match="2 subwords that the model lacks"):
        load_objective(folder, AdaptSettings(block_size=32, device="cpu"))
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer))  # what the message says to do
    model.save_pretrained(folder)
    make_nlp(folder, heads=("textcat",))("hydraulic indication")


def test_words_of_the_model_that_the_tokenizer_lacks_are_no_fault(tmp_path):
    """Many checkpoints are padded to a multiple of 8."""
    make_nlp(save_tiny("bert", tmp_path / "encoder", vocab_size=512), heads=("textcat",))(TEXTS[0])


def test_an_augmenter_refuses_it_too(tiny, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(TEXTS * 20))
    settings = AdaptSettings(block_size=32, max_steps=1, device="cpu", eval_blocks=2)
    adapt(tiny(), [str(text)], tmp_path / "adapted", settings=settings, echo=lambda line: None)
    augmenter = masked_augmenter(with_more_words(tmp_path / "adapted", tmp_path / "more"), device="cpu")
    with pytest.raises(UserError, match="2 subwords that the model lacks"):
        augmenter._load()


def test_a_saved_pipeline_whose_tokenizer_was_changed_is_refused_when_it_is_loaded(tiny, tmp_path):
    make_nlp(tiny(), heads=("textcat",)).to_disk(tmp_path / "pipeline")
    (file,) = (tmp_path / "pipeline").rglob("tokenizer.json")
    tokenizer = json.loads(file.read_text())
    tokenizer["model"]["vocab"]["hydraulic"] = 100_000
    file.write_text(json.dumps(tokenizer))
    with pytest.raises(UserError, match="'hydraulic' among them"):
        spacy.load(tmp_path / "pipeline")


def test_a_model_that_gives_nan_is_refused(tmp_path):
    folder = save_tiny("bert", tmp_path / "encoder")
    model = AutoModel.from_pretrained(folder)
    with torch.no_grad():
        model.encoder.layer[1].output.dense.bias[3] = float("nan")
    model.save_pretrained(folder)
    with pytest.raises(UserError, match="bert gives vectors that are NaN or infinite: its weights are damaged"):
        make_nlp(folder, heads=("textcat",))


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("encoder.layer.3.attention.self.query.weight", 3),
        ("transformer.h.0.mlp.bias", 0),
        ("encoder.albert_layer_groups.0.albert_layers.0.ffn.weight", 0),
        ("attentions.11.q_lin.weight", 11),
        ("base_model.model.layers.5.attn.Wqkv.lora_A.default.weight", 5),
        ("embeddings.word_embeddings.weight", None),
        ("word_embed.0.weight", None),
        ("final_norm.weight", None),
    ],
)
def test_the_layer_of_a_parameter(name, layer):
    assert layer_of(name) == layer
