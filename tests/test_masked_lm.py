"""`mtl_masked_lm`: continued pretraining as an auxiliary task of joint training."""

import pytest
import spacy
import torch
from conftest import FAMILIES, gold_doc, make_nlp, sample_examples, save_tiny
from safetensors.torch import load_file
from spacy.training import Example
from transformers import AutoConfig, AutoModelForMaskedLM

from mtl.encoder.model.masking import MaskedBatch, MaskSettings
from mtl.encoder.model.mlm import masked_loss
from mtl.errors import UserError
from mtl.tasks.masked_lm.module import MaskedLMHead
from mtl.training.optimizer import adamw
from mtl.weighting.static import StaticWeighting

MASKED_FAMILIES = [name for name in FAMILIES if name != "gpt2"]


def save_whole(family, folder):
    """Write a tiny encoder with its masked-LM head, as `mtl adapt` does. Returns its folder and the model."""
    save_tiny(family, folder)
    torch.manual_seed(1)
    model = AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(folder))
    with torch.no_grad():
        model.get_output_embeddings().bias.normal_()
    model.save_pretrained(folder)
    return str(folder), model.eval()


def with_masked_lm(folder, heads=("textcat",), weighting=None, init=None, **settings):
    """A pipeline of `heads` with the auxiliary task behind them."""
    nlp = make_nlp(folder, heads=heads)
    nlp.add_pipe("mtl_masked_lm", name="masked_lm", config=settings)
    head = nlp.get_pipe("masked_lm")
    if weighting is not None:
        nlp.get_pipe("transformer").weighting = weighting
    head.initialize(lambda: sample_examples(nlp), nlp=nlp, **({"name": folder} if init is None else init))
    return nlp


@pytest.mark.parametrize("family", MASKED_FAMILIES)
def test_the_head_gives_the_logits_of_the_whole_model(tmp_path, family):
    """From the encoder's hidden states and embeddings."""
    _, model = save_whole(family, tmp_path / "whole")
    head = MaskedLMHead(model.config).eval()
    head.copy_head(model)
    ids = torch.arange(6, 26)[None]
    with torch.no_grad():
        hidden = model.base_model(input_ids=ids).last_hidden_state[0]
        logits = head(hidden, model.get_input_embeddings().weight)
        torch.testing.assert_close(logits, model(input_ids=ids).logits[0], atol=1e-5, rtol=1e-4)
    assert not any("embed" in name for name, _ in head.named_parameters())


def test_its_gradient_at_the_encoder_is_that_of_masked_language_modelling(tmp_path):
    """All words are masked, so that nothing is random, and the text fits in one window, so that both see the same input."""
    folder, model = save_whole("bert", tmp_path / "whole")
    nlp = with_masked_lm(folder, weighting=StaticWeighting({}, False, {}))
    head, transformer = nlp.get_pipe("masked_lm"), nlp.get_pipe("transformer")
    text = "The pump failed in Oslo."
    masks = MaskSettings(transformer.encoder.tokenizer.mask_token_id, len(transformer.encoder.tokenizer), 1.0, mask_fraction=1.0)
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
    selected = torch.ones_like(ids, dtype=torch.bool)
    selected[:, [0, -1]] = False
    masked_ids = ids.masked_fill(selected, masks.mask_id)
    assert targets.tolist() == ids[selected].tolist()
    table = model.get_output_embeddings().weight
    model.get_output_embeddings().weight = torch.nn.Parameter(table.detach().clone())  # untied: no gradient from the output
    reference = masked_loss(model, MaskedBatch(masked_ids, selected, ids[selected]), torch.ones_like(ids))
    reference.backward()
    assert loss.item() == pytest.approx(reference.item(), abs=1e-4)
    parameters = dict(transformer.encoder.model.named_parameters())
    compared = 0
    for name, parameter in model.base_model.named_parameters():
        if name in parameters and parameter.grad is not None:
            torch.testing.assert_close(parameters[name].grad, parameter.grad, atol=1e-5, rtol=1e-3)
            compared += 1
    assert compared > 20


def test_it_learns_beside_the_other_heads_and_changes_no_prediction(tmp_path):
    folder, _ = save_whole("bert", tmp_path / "whole")
    nlp = with_masked_lm(folder, heads=("textcat", "ner"), mlm_probability=0.3)
    assert nlp("The pump failed in Oslo.").cats.keys() == {"A", "B"}
    optimizer, examples = adamw(3e-3), sample_examples(nlp)
    losses = [nlp.update(examples, sgd=optimizer, losses={}) for _ in range(60)]
    late, early = (sum(step["masked_lm"] for step in part) for part in (losses[-10:], losses[:10]))
    assert late < 0.8 * early and losses[-1]["textcat"] < losses[0]["textcat"]
    norms = nlp.get_pipe("transformer").statistics
    assert norms["norm/masked_lm"] > 0 and norms["cosine/masked_lm/ner"] == pytest.approx(0.0, abs=1e-6)
    nlp.to_disk(tmp_path / "pipeline")
    again = spacy.load(tmp_path / "pipeline")
    texts = [eg.text for eg in examples]
    predictions = [doc.to_json() for doc in again.pipe(texts)]
    assert [doc.to_json() for doc in nlp.pipe(texts)] == predictions
    encoder = again.get_pipe("transformer").encoder
    before = encoder.passes
    with again.select_pipes(disable="masked_lm"):
        assert [doc.to_json() for doc in again.pipe(texts)] == predictions
    assert encoder.passes - before == len(texts)
    stored = load_file(tmp_path / "pipeline" / "masked_lm" / "model.safetensors")
    assert stored and max(tensor.numel() for tensor in stored.values()) <= 32 * 32  # no copy of the embeddings
    head = again.get_pipe("masked_lm")
    assert type(head).__name__ == "MaskedLM" and head.from_bytes(nlp.get_pipe("masked_lm").to_bytes())
    again.update(examples, sgd=adamw(1e-3), losses=(more := {}))
    assert more["masked_lm"] < early / 10


def test_vectors_are_released_if_it_is_the_last_head(tmp_path):
    folder, _ = save_whole("bert", tmp_path / "whole")
    nlp = with_masked_lm(folder)
    doc = nlp("The pump failed.")
    assert nlp.get_pipe("transformer")._cache.get([doc]) == [None]


def test_its_weight_falls_to_0_and_then_it_costs_nothing(tmp_path):
    folder, _ = save_whole("bert", tmp_path / "whole")
    nlp = with_masked_lm(folder, weighting=StaticWeighting({"masked_lm": 2.0}, False, {"masked_lm": 4}))
    transformer, optimizer, examples = nlp.get_pipe("transformer"), adamw(1e-3), sample_examples(nlp)
    weights, passes = [], []
    for _ in range(6):
        before = transformer.encoder.passes
        losses = nlp.update(examples, sgd=optimizer, losses={})
        weights.append(transformer.statistics.get("weight/masked_lm"))
        passes.append(transformer.encoder.passes - before)
        assert (losses["masked_lm"] > 0) == (len(weights) <= 4)
    assert weights[:4] == [2.0, 1.5, 1.0, 0.5] and weights[4:] == [None, None]


def test_it_can_learn_from_unlabelled_documents_only(tmp_path):
    folder, _ = save_whole("bert", tmp_path / "whole")
    nlp = make_nlp(folder)
    nlp.add_pipe("mtl_masked_lm", name="masked_lm", config={"documents": "unlabelled"})
    head = nlp.get_pipe("masked_lm")
    assert not any(head.is_annotated(example.reference) for example in sample_examples(nlp))
    assert head.is_annotated(nlp.make_doc("The pump."))
    assert not head.is_annotated(gold_doc(nlp, "The pump.", ents=[]))
    with pytest.raises(UserError, match="'masked_lm' has no training data"):
        head.initialize(lambda: sample_examples(nlp), nlp=nlp, name=folder)


def test_long_documents_and_empty_ones_are_masked_once(tmp_path):
    """A token of several windows is predicted once."""
    folder, _ = save_whole("bert", tmp_path / "whole")
    nlp = with_masked_lm(folder)
    transformer = nlp.get_pipe("transformer")
    long = nlp.make_doc("The pump failed in Oslo and the valve leaked. " * 30)
    examples = [Example(nlp.make_doc(doc.text), doc) for doc in (long, nlp.make_doc(""), nlp.make_doc("Oslo"))]
    transformer.update(examples)
    batch = transformer.batch(examples)
    masks = MaskSettings(4, len(transformer.encoder.tokenizer), 1.0, mask_fraction=1.0)
    _, targets = batch.masked([0, 1, 2], masks)
    whole = [transformer.encoder.tokenizer(eg.text, add_special_tokens=False)["input_ids"] for eg in examples]
    assert sorted(targets.tolist()) == sorted(subword for ids in whole for subword in ids)
    losses = nlp.update(examples[1:2], sgd=adamw(1e-3), losses={})
    assert losses["masked_lm"] == 0.0


def test_unusable_settings_and_checkpoints_are_refused(tmp_path):
    folder, _ = save_whole("bert", tmp_path / "whole")
    bare, other = save_tiny("bert", tmp_path / "bare"), save_whole("roberta", tmp_path / "other")[0]
    for init, message in (
        ({}, r"\[initialize.components.masked_lm\] name is not set"),
        ({"name": bare}, r"name = '.*bare': the checkpoint has no masked-LM head"),
        ({"name": other}, r"name = '.*other' is not the checkpoint that the encoder of 'transformer' comes from"),
    ):
        with pytest.raises(UserError, match=message):
            with_masked_lm(folder, init=init)
    with pytest.raises(UserError, match=r"components.masked_lm.documents = 'some' .*all"):
        with_masked_lm(folder, documents="some")
    with pytest.raises(UserError, match=r"components.masked_lm.mlm_probability = 2"):
        with_masked_lm(folder, mlm_probability=2.0)
    with pytest.raises(UserError, match=r"weighting.anneal.masked_lm = 0"):
        StaticWeighting({}, True, {"masked_lm": 0})
    with pytest.raises(UserError, match=r"weighting.anneal names maskedlm; the heads are textcat, ner, qa"):
        make_nlp(folder, ("textcat", "ner", "qa"), weighting={"@misc": "mtl.StaticWeighting.v1", "anneal": {"maskedlm": 5}})
