"""What other code of the process does with torch's global state changes neither predictions nor training."""

from contextlib import contextmanager

import pytest
import spacy
import torch
from conftest import HEADS, make_nlp, sample_examples

from mtl.training.optimizer import adamw

TEXT = "The pump failed in Oslo."


@contextmanager
def float64_default():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


STATES = {
    "default dtype float64": float64_default,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}


def facts(doc):
    numbers = [*doc.cats.values(), *doc.spans["ner"].attrs["scores"], doc._.score, doc._.ask("What failed?").margin]
    return [(ent.text, ent.label_) for ent in doc.ents], [token.tag_ for token in doc], numbers


@pytest.mark.parametrize("state", STATES)
def test_predictions_are_the_same(tiny, state):
    nlp = make_nlp(tiny())
    expected = facts(nlp(TEXT))
    with STATES[state]():
        assert facts(nlp(TEXT)) == expected
        assert facts(next(nlp.pipe([TEXT]))) == expected


@pytest.mark.parametrize("state", STATES)
def test_training_takes_the_same_step(tiny, state):
    first, second = make_nlp(tiny()), make_nlp(tiny())
    second.from_bytes(first.to_bytes())
    first.update(sample_examples(first), sgd=adamw(1e-2))
    with STATES[state]():
        second.update(sample_examples(second), sgd=adamw(1e-2))
        second.get_pipe("transformer").take_due_step()
    assert first.to_bytes() == second.to_bytes()


@pytest.mark.parametrize("state", STATES)
def test_a_pipeline_is_made_saved_and_loaded_in_float32(tiny, tmp_path, state):
    with STATES[state]():
        nlp = make_nlp(tiny())
        nlp.to_disk(tmp_path)
        loaded = spacy.load(tmp_path)
    for pipeline in (nlp, loaded):
        parameters = pipeline.get_pipe("transformer").parameters().values()
        assert {parameter.dtype for parameter, _ in parameters} == {torch.float32}
    loaded.update(sample_examples(loaded), sgd=adamw(1e-2))
    assert all(loaded.get_pipe(name).parameters() for name in HEADS)
