"""A step over more text than fits in memory: what its backward pass needs is computed once more, with the same result."""

import pytest
import torch
from conftest import TEXTS, make_nlp, sample_examples, save_tiny
from spacy.training import Example

from mtl.encoder.model import encoder as encoder_module
from mtl.encoder.model.masking import MaskSettings
from mtl.encoder.runtime import device as device_module
from mtl.encoder.runtime.device import subwords_to_keep
from mtl.encoder.texts import tokenized_texts
from mtl.training.optimizer import adamw

DROPOUT = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.2}


@pytest.fixture
def with_dropout(tmp_path):
    return save_tiny("bert", tmp_path / "encoder", **DROPOUT)


def long_examples(nlp):
    """Two documents of several windows, and short ones."""
    examples = sample_examples(nlp)
    texts = [" ".join(text for _ in range(3) for text in TEXTS), " ".join(reversed(TEXTS)) * 2]
    for text in texts:
        doc = nlp.make_doc(text)
        doc.cats = {"A": 1.0, "B": 0.0}
        doc.set_ents([doc.char_span(8, 9, label="PART")] if doc.char_span(8, 9) else [], default="outside")
        examples.append(Example(nlp.make_doc(text), doc))
    return examples


def step(encoder, keep, monkeypatch, parts=1, steps=2, **settings):
    """Losses and weights after some steps in which so many subwords are kept."""
    monkeypatch.setattr(encoder_module, "subwords_to_keep", lambda *_: keep)
    nlp = make_nlp(encoder, examples=long_examples, **settings)
    optimizer, losses = adamw(1e-3), {}
    torch.manual_seed(5)
    for _ in range(steps):
        examples = long_examples(nlp)
        size = -(-len(examples) // parts)
        for start in range(0, len(examples), size):
            nlp.update(examples[start : start + size], sgd=False, losses=losses)
        for _, pipe in nlp.pipeline:
            pipe.finish_update(optimizer)
    weights = {name: parameter.detach().clone() for name, (parameter, _) in nlp.get_pipe("transformer").parameters().items()}
    return losses, weights


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"parts": 3},
        {"weighting": {"@misc": "mtl.GradNormWeighting.v1"}},
        {"weighting": {"@misc": "mtl.PCGradWeighting.v1"}},
        {"model": {"precision": "bf16"}},
        {"model": {"frozen_layers": 1}},
    ],
    ids=str,
)
def test_the_result_is_that_of_keeping_everything(settings, with_dropout, monkeypatch):
    """Dropout, the order of draws and the precision included."""
    kept_losses, kept = step(with_dropout, 10**9, monkeypatch, **settings)
    losses, weights = step(with_dropout, 0, monkeypatch, **settings)
    assert losses == pytest.approx(kept_losses, rel=1e-5)
    for name, weight in weights.items():
        torch.testing.assert_close(weight, kept[name], atol=2e-5, rtol=1e-4, msg=name)


def test_masked_text_gets_the_same_gradients(with_dropout, monkeypatch):
    gradients = []
    for keep in (10**9, 0):
        monkeypatch.setattr(encoder_module, "subwords_to_keep", lambda *_, keep=keep: keep)
        nlp = make_nlp(with_dropout, heads=("textcat",))
        encoder = nlp.get_pipe("transformer").encoder
        torch.manual_seed(1)
        texts = tokenized_texts([example.reference for example in long_examples(nlp)])
        vectors, targets = encoder.encode_masked(texts, MaskSettings(4, len(encoder.tokenizer), 0.3))
        vectors[torch.arange(len(targets)), targets % vectors.shape[1]].sum().backward()
        gradients.append({name: parameter.grad for name, parameter in encoder.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_what_a_step_keeps_does_not_grow_with_the_windows(with_dropout, monkeypatch):
    def kept_bytes(keep):
        monkeypatch.setattr(encoder_module, "subwords_to_keep", lambda *_: keep)
        nlp = make_nlp(with_dropout, heads=("textcat",))
        texts, sizes = tokenized_texts([example.reference for example in long_examples(nlp)]), []

        def pack(tensor):
            sizes.append(0 if tensor.is_leaf else tensor.numel() * tensor.element_size())
            return tensor

        encoder = nlp.get_pipe("transformer").encoder
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = encoder.encode(texts, train=True)
        assert output.vectors.requires_grad and not encoder.training
        return sum(sizes)

    assert kept_bytes(0) < 0.1 * kept_bytes(10**9)


def test_how_much_is_kept_depends_on_the_free_memory(with_dropout, monkeypatch):
    encoder = make_nlp(with_dropout, heads=("textcat",)).get_pipe("transformer").encoder
    counts = []
    for free in (None, 10**12, 10**9):
        monkeypatch.setattr(device_module, "free_memory", lambda free=free: free)
        counts.append(subwords_to_keep(encoder.model, encoder.width, torch.device("cpu")))
    assert counts[0] == counts[1] == 4_000_000_000 // (90 * 2 * 32) and counts[2] == 250_000_000 // (90 * 2 * 32)
