"""`mtl_masked_lm`: continued pretraining as an auxiliary task of the joint training."""

import pytest
import spacy
import torch
from conftest import FAMILIES, gold_doc, make_nlp, sample_examples, save_tiny
from safetensors.torch import load_file
from spacy.training import Example
from transformers import AutoConfig, AutoModelForMaskedLM

from mtl.balance.static import StaticBalance
from mtl.encoder.masking import MaskedBatch, MaskSettings
from mtl.encoder.mlm import masked_loss
from mtl.errors import UserError
from mtl.heads.masked_lm.module import MaskedLMHead
from mtl.training.optimizer import adamw

MASKED = [name for name in FAMILIES if name != "gpt2"]


def save_whole(family, folder):
    """A tiny encoder with its masked-LM head, as `mtl adapt` writes it; RETURNS its folder and the model."""
    save_tiny(family, folder)
    torch.manual_seed(1)
    model = AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(folder))
    with torch.no_grad():
        model.get_output_embeddings().bias.normal_()
    model.save_pretrained(folder)
    return str(folder), model.eval()


def with_masked_lm(folder, heads=("textcat",), balance=None, init=None, **settings):
    """A pipeline of `heads` with the auxiliary task behind them."""
    nlp = make_nlp(folder, heads=heads)
    nlp.add_pipe("mtl_masked_lm", name="masked_lm", config=settings)
    head = nlp.get_pipe("masked_lm")
    if balance is not None:
        nlp.get_pipe("transformer").balance = balance
    head.initialize(lambda: sample_examples(nlp), nlp=nlp, **({"name": folder} if init is None else init))
    return nlp


@pytest.mark.parametrize("family", MASKED)
def test_the_head_is_the_models_own(tmp_path, family):
    """With the encoder's hidden states and embeddings, the head alone gives the whole model's logits."""
    _, model = save_whole(family, tmp_path / "whole")
    head = MaskedLMHead(model.config).eval()
    head.take(model)
    ids = torch.arange(6, 26)[None]
    with torch.no_grad():
        hidden = model.base_model(input_ids=ids).last_hidden_state[0]
        found = head(hidden, model.get_input_embeddings().weight)
        torch.testing.assert_close(found, model(input_ids=ids).logits[0], atol=1e-5, rtol=1e-4)
    assert not any("embed" in name for name, _ in head.named_parameters())


def test_its_gradient_at_the_encoder_is_that_of_masked_language_modelling(tmp_path):
    """Everything is hidden, so that nothing is left to chance; the text fits one window, so that ours is one plain block."""
    folder, model = save_whole("bert", tmp_path / "whole")
    nlp = with_masked_lm(folder, balance=StaticBalance({}, False, {}))
    head, transformer = nlp.get_pipe("masked_lm"), nlp.get_pipe("transformer")
    text = "The pump failed in Oslo."
    masks = MaskSettings(transformer.encoder.tokenizer.mask_token_id, len(transformer.encoder.tokenizer), 1.0, masked=1.0)
    example = Example(nlp.make_doc(text), nlp.make_doc(text))
    batch = transformer.batch([example])
    losses = {}
    transformer.update([example], losses=losses)
    batch = transformer.batch([example])
    vectors, targets = batch.masked([0], masks)
    loss = torch.nn.functional.cross_entropy(head.module(vectors, model.get_input_embeddings().weight), targets)
    loss.backward()
    batch.collect("masked_lm", loss.item())
    transformer.flush()
    ids = transformer.encoder.tokenizer(text, return_tensors="pt")["input_ids"]
    chosen = torch.ones_like(ids, dtype=torch.bool)
    chosen[:, [0, -1]] = False
    hidden = ids.masked_fill(chosen, masks.mask_id)
    assert targets.tolist() == ids[chosen].tolist()
    table = model.get_output_embeddings().weight
    model.get_output_embeddings().weight = torch.nn.Parameter(table.detach().clone())  # untied: not the head's own gradient
    whole = masked_loss(model, MaskedBatch(hidden, chosen, ids[chosen]), torch.ones_like(ids))
    whole.backward()
    assert loss.item() == pytest.approx(whole.item(), abs=1e-4)
    ours = dict(transformer.encoder.model.named_parameters())
    compared = 0
    for name, parameter in model.base_model.named_parameters():
        if name in ours and parameter.grad is not None:
            torch.testing.assert_close(ours[name].grad, parameter.grad, atol=1e-5, rtol=1e-3)
            compared += 1
    assert compared > 20


def test_it_learns_beside_the_other_heads_and_changes_no_prediction(tmp_path):
    folder, _ = save_whole("bert", tmp_path / "whole")
    nlp = with_masked_lm(folder, heads=("textcat", "ner"), rate=0.3)
    assert nlp("The pump failed in Oslo.").cats.keys() == {"A", "B"}
    optimizer, examples = adamw(3e-3), sample_examples(nlp)
    losses = [nlp.update(examples, sgd=optimizer, losses={}) for _ in range(60)]
    late, early = (sum(one["masked_lm"] for one in part) for part in (losses[-10:], losses[:10]))
    assert late < 0.8 * early and losses[-1]["textcat"] < losses[0]["textcat"]
    norms = nlp.get_pipe("transformer").statistics
    assert norms["norm/masked_lm"] > 0 and norms["cosine/masked_lm/ner"] == pytest.approx(0.0, abs=1e-6)
    nlp.to_disk(tmp_path / "pipeline")
    again = spacy.load(tmp_path / "pipeline")
    texts = [eg.text for eg in examples]
    with_it = [doc.to_json() for doc in again.pipe(texts)]
    assert [doc.to_json() for doc in nlp.pipe(texts)] == with_it
    encoder = again.get_pipe("transformer").encoder
    before = encoder.passes
    with again.select_pipes(disable="masked_lm"):
        assert [doc.to_json() for doc in again.pipe(texts)] == with_it
    assert encoder.passes - before == len(texts)
    stored = load_file(tmp_path / "pipeline" / "masked_lm" / "model.safetensors")
    assert stored and max(tensor.numel() for tensor in stored.values()) <= 32 * 32  # no copy of the embeddings
    head = again.get_pipe("masked_lm")
    assert type(head).__name__ == "MaskedLM" and head.from_bytes(nlp.get_pipe("masked_lm").to_bytes())
    again.update(examples, sgd=adamw(1e-3), losses=(more := {}))
    assert more["masked_lm"] < early / 10


def test_its_vectors_are_released_where_it_is_last(tmp_path):
    folder, _ = save_whole("bert", tmp_path / "whole")
    nlp = with_masked_lm(folder)
    doc = nlp("The pump failed.")
    assert doc not in nlp.get_pipe("transformer")._encodings


def test_the_weight_falls_to_nothing_and_then_it_costs_nothing(tmp_path):
    folder, _ = save_whole("bert", tmp_path / "whole")
    nlp = with_masked_lm(folder, balance=StaticBalance({"masked_lm": 2.0}, False, {"masked_lm": 4}))
    transformer, optimizer, examples = nlp.get_pipe("transformer"), adamw(1e-3), sample_examples(nlp)
    weights, passes = [], []
    for _ in range(6):
        before = transformer.encoder.passes
        losses = nlp.update(examples, sgd=optimizer, losses={})
        weights.append(transformer.statistics.get("weight/masked_lm"))
        passes.append(transformer.encoder.passes - before)
        assert (losses["masked_lm"] > 0) == (len(weights) <= 4)
    assert weights[:4] == [2.0, 1.5, 1.0, 0.5] and weights[4:] == [None, None]


def test_it_may_learn_from_unlabelled_documents_alone(tmp_path):
    folder, _ = save_whole("bert", tmp_path / "whole")
    nlp = make_nlp(folder)
    nlp.add_pipe("mtl_masked_lm", name="masked_lm", config={"documents": "unlabelled"})
    head = nlp.get_pipe("masked_lm")
    assert not any(head.is_annotated(example.reference) for example in sample_examples(nlp))
    assert head.is_annotated(nlp.make_doc("The pump."))
    assert not head.is_annotated(gold_doc(nlp, "The pump.", ents=[]))
    with pytest.raises(UserError, match="'masked_lm' has no training data"):
        head.initialize(lambda: sample_examples(nlp), nlp=nlp, name=folder)


def test_long_documents_and_empty_ones(tmp_path):
    """A token of several windows is asked for once."""
    folder, _ = save_whole("bert", tmp_path / "whole")
    nlp = with_masked_lm(folder)
    transformer = nlp.get_pipe("transformer")
    long = nlp.make_doc("The pump failed in Oslo and the valve leaked. " * 30)
    examples = [Example(nlp.make_doc(doc.text), doc) for doc in (long, nlp.make_doc(""), nlp.make_doc("Oslo"))]
    transformer.update(examples)
    batch = transformer.batch(examples)
    masks = MaskSettings(4, len(transformer.encoder.tokenizer), 1.0, masked=1.0)
    _, targets = batch.masked([0, 1, 2], masks)
    whole = [transformer.encoder.tokenizer(eg.text, add_special_tokens=False)["input_ids"] for eg in examples]
    assert sorted(targets.tolist()) == sorted(piece for one in whole for piece in one)
    losses = nlp.update(examples[1:2], sgd=adamw(1e-3), losses={})
    assert losses["masked_lm"] == 0.0


def test_mistakes(tmp_path):
    folder, _ = save_whole("bert", tmp_path / "whole")
    bare, other = save_tiny("bert", tmp_path / "bare"), save_whole("roberta", tmp_path / "other")[0]
    for init, message in (
        ({}, r"\[initialize.components.masked_lm\] name is not set"),
        ({"name": bare}, r"name = '.*bare': the checkpoint has no masked-LM head"),
        ({"name": other}, r"name = '.*other' is not what the encoder of 'transformer' comes from"),
    ):
        with pytest.raises(UserError, match=message):
            with_masked_lm(folder, init=init)
    with pytest.raises(UserError, match=r"components.masked_lm.documents = 'some' .*all"):
        with_masked_lm(folder, documents="some")
    with pytest.raises(UserError, match=r"components.masked_lm.rate = 2"):
        with_masked_lm(folder, rate=2.0)
    with pytest.raises(UserError, match=r"balance.anneal.masked_lm = 0"):
        StaticBalance({}, True, {"masked_lm": 0})
    with pytest.raises(UserError, match=r"balance.anneal names maskedlm; the heads are textcat, ner, qa"):
        make_nlp(folder, balance={"@misc": "mtl.StaticBalance.v1", "anneal": {"maskedlm": 5}})
