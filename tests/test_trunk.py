"""Collect, weighting, one backward: what reaches the encoder."""

import dataclasses
from itertools import combinations

import pytest
import spacy
import torch
from conftest import GOLD, HEADS, gold_doc, gramian_of, make_nlp, sample_examples
from spacy.tokens import Doc, Span
from spacy.training import Example

from mtl.errors import UserError
from mtl.training.optimizer import adamw
from mtl.weighting.static import StaticWeighting

FLAT = {"@misc": "mtl.StaticWeighting.v1", "normalize": False}


def trunk_gradient(nlp, batches):
    """The encoder's gradient after an update a batch, without a step."""
    for batch in batches:
        nlp.update(batch, sgd=False)
    transformer = nlp.get_pipe("transformer")
    transformer.flush()
    gradient = {n: p.grad.clone() for n, p in transformer.encoder.model.named_parameters() if p.grad is not None}
    for entry in transformer.parameters().values():
        entry[0].grad = None
    return gradient


def assert_same(actual, expected):
    assert actual.keys() == expected.keys() and actual
    for name in actual:
        torch.testing.assert_close(actual[name], expected[name], atol=1e-6, rtol=1e-4)


def test_the_order_of_heads_changes_nothing(tiny):
    weights = {}
    gradients = []
    names = list(HEADS)
    rotations = [names[i:] + names[:i] for i in range(len(names))]  # each head is once the first, once the last
    for order in [*rotations, names[::-1]]:
        nlp = make_nlp(tiny(), heads=order, weighting=FLAT)
        for head in order:
            weights.setdefault(head, nlp.get_pipe(head).to_bytes())
            nlp.get_pipe(head).from_bytes(weights[head])
        gradients.append(trunk_gradient(nlp, [sample_examples(nlp)]))
    for other in gradients[1:]:
        assert_same(gradients[0], other)


def test_mixed_and_separate_batches_give_the_same(tiny):
    nlp = make_nlp(tiny(), weighting=FLAT)
    texts = [("The pump failed in Oslo.", {"cats": {"A": 1.0, "B": 0.0}}), ("The valve leaked.", {"cats": {"A": 0.0, "B": 1.0}}),
             ("Crew flew to Oslo.", {"ents": [(13, 17, "LOC")]}), ("A pump.", {"ents": [(2, 6, "PART")]}),
             ("The wire chafed in the bay.", {"qas": {"What chafed?": "The wire", "Who?": None}})]  # fmt: skip
    examples = [Example(nlp.make_doc(text), gold_doc(nlp, text, **gold)) for text, gold in texts]
    mixed = trunk_gradient(nlp, [examples])
    separate = trunk_gradient(nlp, [examples[:2], examples[2:4], examples[4:]])
    assert_same(mixed, separate)


@pytest.mark.parametrize("present, absent", list(zip(HEADS, [*list(HEADS)[1:], next(iter(HEADS))])))
def test_a_head_without_gold_loses_no_gradient(tiny, present, absent):
    """Stock spacy-transformers gives the encoder nothing when the last listener has no gold."""
    nlp = make_nlp(tiny(), heads=(present, absent), weighting=FLAT)
    text = "The pump failed."
    gradient = trunk_gradient(nlp, [[Example(nlp.make_doc(text), gold_doc(nlp, text, **GOLD[present]))]])
    assert sum(g.abs().sum() for g in gradient.values()) > 0


def test_one_backward_in_finish_update_and_one_pass_a_document(nlp, monkeypatch):
    transformer = nlp.get_pipe("transformer")
    calls = []
    real = torch.autograd.backward
    monkeypatch.setattr(torch.autograd, "backward", lambda *a, **k: (calls.append(1), real(*a, **k))[1])
    text = "The pump failed in Oslo."
    gold = gold_doc(nlp, text, {"A": 1.0, "B": 0.0}, [(4, 8, "PART")], {"What?": "The pump", "Who?": None}, list("DNVPN."), 1.0,
                    {"pump": ["BAD"]})  # fmt: skip
    before = transformer.encoder.passes
    nlp.update([Example(nlp.make_doc(text), gold)], sgd=adamw())
    transformer.take_due_step()
    assert transformer.encoder.passes == before + 3  # the text once for all heads that read it, and once for each question
    assert len(calls) == len(HEADS) + 1  # each head's own loss.backward() stops at the encoder's output


@pytest.mark.parametrize("exclude", [[], ["regressor"], ["ner", "qa"], ["transformer", "qa"]])
def test_nlp_update_and_the_training_loop_take_the_same_steps(tiny, exclude):
    """Stock spaCy applies the encoder's gradient one call late under `nlp.update(sgd=...)`."""
    by_call, by_loop = make_nlp(tiny()), make_nlp(tiny())
    by_loop.from_bytes(by_call.to_bytes())
    first, second = adamw(1e-2), adamw(1e-2)
    for _ in range(2):
        by_call.update(sample_examples(by_call), sgd=first, exclude=exclude)
        by_loop.update(sample_examples(by_loop), sgd=False, exclude=exclude)
        for name, pipe in by_loop.pipeline:
            if name not in exclude:
                pipe.finish_update(second)
    assert by_call("The pump failed.").cats == by_loop("The pump failed.").cats
    assert by_call.to_bytes() == by_loop.to_bytes()


def test_weights_act_at_the_encoder(tiny):
    def gradient(weight):
        weighting = {**FLAT, "weights": {**dict.fromkeys(HEADS, 0.0), "ner": weight}}
        nlp = make_nlp(tiny(), weighting=weighting)
        return trunk_gradient(nlp, [sample_examples(nlp)])

    single, triple = gradient(1.0), gradient(3.0)
    for name in single:
        torch.testing.assert_close(triple[name], 3 * single[name], atol=1e-6, rtol=1e-3)


def test_a_weight_for_a_head_that_is_not_there(tiny):
    with pytest.raises(UserError, match=r"weighting.weights names foo; the heads are .*ner"):
        make_nlp(tiny(), weighting={"@misc": "mtl.StaticWeighting.v1", "weights": {"foo": 1.0}})


def test_static_balance_divides_by_the_loss_at_the_start():
    weighting = StaticWeighting({"b": 2.0}, normalize=True)
    assert weighting(gramian_of(a=[1.0], b=[1.0]), {"a": 4.0, "b": 0.5}) == {"a": 0.25, "b": 4.0}
    assert weighting(gramian_of(a=[1.0]), {"a": 2.0}) == {"a": pytest.approx(1 / 3)}  # the mean of the first losses
    assert StaticWeighting({}, normalize=True)(gramian_of(c=[1.0]), {"c": 1e-6}) == {"c": 10.0}  # at most tenfold
    with pytest.raises(UserError, match=r"weighting\.weights\.x"):
        StaticWeighting({"x": -1.0}, normalize=True)


def test_statistics_hold_norms_weights_and_cosines(nlp):
    nlp.update(sample_examples(nlp), sgd=adamw())
    nlp.get_pipe("transformer").take_due_step()
    statistics = nlp.get_pipe("transformer").statistics
    pairs = {f"cosine/{a}/{b}" for a, b in combinations(sorted(HEADS), 2)}
    assert set(statistics) == {f"{kind}/{task}" for kind in ("norm", "weight") for task in HEADS} | pairs
    assert statistics["cosine/ner/qa"] == 0.0  # they read different encodings
    assert statistics["cosine/ner/textcat"] != 0.0


@pytest.mark.parametrize("normalize", [True, False])
def test_cosines_on_the_parameters(tiny, normalize):
    """Measured there, tasks that read different encodings have one, and what is learned is the same."""
    steps = {}
    for measured in (False, True):
        nlp = make_nlp(tiny(), weighting={"@misc": "mtl.StaticWeighting.v1", "normalize": normalize})
        transformer = nlp.get_pipe("transformer")
        transformer.updates.cosines_at = "parameters" if measured else "outputs"
        optimizer, losses = adamw(1e-3), {}
        for _ in range(3):
            nlp.update(sample_examples(nlp), sgd=optimizer, losses=losses)
        transformer.take_due_step()
        steps[measured] = transformer.statistics, losses, dict(transformer.encoder.model.named_parameters())
    plain, with_cosines = steps[False][0], steps[True][0]
    assert plain.keys() == with_cosines.keys() and plain["cosine/ner/qa"] == 0.0 and abs(with_cosines["cosine/ner/qa"]) > 1e-3
    assert all(with_cosines[key] == pytest.approx(plain[key], rel=1e-3) for key in plain if not key.startswith("cosine/"))
    assert steps[True][1] == pytest.approx(steps[False][1], rel=1e-4)
    for name, parameter in steps[False][2].items():
        torch.testing.assert_close(steps[True][2][name], parameter, atol=1e-4, rtol=1e-3)


def gradients(nlp, parts, exclude=()):
    """All gradients, of the encoder and the heads, after the parts of one step."""
    for part in parts:
        nlp.update(part, sgd=False, exclude=exclude)
    transformer = nlp.get_pipe("transformer")
    transformer.flush()
    parameters = transformer.parameters()
    found = {name: parameter.grad.clone() for name, (parameter, _) in parameters.items() if parameter.grad is not None}
    transformer.abandon_update()
    return found


@pytest.mark.parametrize("sizes", [[2, 2, 2, 2], [3, 3, 2], [1, 7], [7, 1], [1] * 8])
@pytest.mark.parametrize("weighting", [FLAT, {"@misc": "mtl.StaticWeighting.v1", "weights": {"ner": 3.0}, "normalize": False}])
def test_parts_of_a_step_are_one_batch_whatever_their_sizes(tiny, sizes, weighting):
    """spaCy cuts five documents by two into 2, 2 and 1; each part's mean loss is over fewer documents, tokens or questions."""
    nlp = make_nlp(tiny(), weighting=weighting)
    examples = sample_examples(nlp)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    expected = gradients(nlp, [examples])
    for _ in range(2):  # nothing is left over from the step before
        assert_same(gradients(nlp, [examples[start : start + size] for start, size in zip(starts, sizes)]), expected)


@pytest.mark.parametrize("sizes", [[3, 3, 2], [1, 7]])
def test_parts_of_a_step_are_one_batch_for_heads_on_a_frozen_encoder(tiny, sizes):
    nlp = make_nlp(tiny())
    examples = sample_examples(nlp)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    expected = gradients(nlp, [examples], ["transformer"])
    parts = [examples[start : start + size] for start, size in zip(starts, sizes)]
    for _ in range(2):
        assert_same(gradients(nlp, parts, ["transformer"]), expected)


def test_a_task_that_fails_in_one_part_of_a_step_counts_from_there(tiny, monkeypatch):
    """Its head's gradient is dropped as a whole, and so is what it left at the encoder."""
    nlp = make_nlp(tiny(), weighting=FLAT)
    examples = sample_examples(nlp)
    rest = gradients(nlp, [examples[6:]])
    ner = nlp.get_pipe("ner")
    loss, calls = ner.loss, []

    def fails_second(rows, batch, drop):
        calls.append(1)
        result = loss(rows, batch, drop)
        return dataclasses.replace(result, mean=result.mean * float("nan")) if len(calls) == 2 else result

    monkeypatch.setattr(ner, "loss", fails_second)
    actual = gradients(nlp, [examples[:2], examples[2:6], examples[6:]])
    names = [name for name in actual if name.startswith("ner.")]
    assert names
    assert_same({name: actual[name] for name in names}, {name: rest[name] for name in names})


def test_a_frozen_encoder_stays_and_its_heads_learn(tiny):
    nlp = make_nlp(tiny())
    transformer = nlp.get_pipe("transformer")
    before = {n: p.clone() for n, p in transformer.encoder.model.named_parameters()}
    optimizer, losses = adamw(1e-2), []
    for _ in range(20):
        losses.append(nlp.update(sample_examples(nlp), sgd=optimizer, losses={}, exclude=["transformer"]))
    assert losses[-1]["textcat"] < losses[0]["textcat"] and losses[-1]["ner"] < losses[0]["ner"]
    assert all(torch.equal(before[n], p) for n, p in transformer.encoder.model.named_parameters())


def test_a_frozen_head_keeps_its_weights_while_the_others_learn(nlp):
    before = nlp.get_pipe("ner").to_bytes()
    nlp.update(sample_examples(nlp), sgd=adamw(1e-2), exclude=["ner"])
    assert nlp.get_pipe("ner").to_bytes() == before


@pytest.mark.parametrize("how", ["sourced", "enabled later"])
def test_heads_learn_wherever_the_pipeline_came_from(tiny, tmp_path, how):
    made = make_nlp(tiny())
    if how == "sourced":
        nlp = spacy.blank("en", vocab=made.vocab)
        for name in made.pipe_names:
            nlp.add_pipe(name, source=made)
        del made
    else:
        made.to_disk(tmp_path)
        nlp = spacy.load(tmp_path, disable=["ner", "textcat"])
        nlp.enable_pipe("ner")
        nlp.enable_pipe("textcat")
    before = {name: nlp.get_pipe(name).to_bytes() for name in HEADS}
    nlp.update(sample_examples(nlp), sgd=adamw(1e-2))
    assert all(nlp.get_pipe(name).to_bytes() != before[name] for name in HEADS)
    assert nlp("The pump failed in Oslo.").cats and nlp("The pump failed.")._.ask("What failed?") is not None
    assert len(nlp.get_pipe("transformer")._cache) == 0


def test_tokens_that_changed_between_encoder_and_head(nlp):
    from spacy.language import Language

    @Language.component("merge_first_two")
    def merge(doc):
        with doc.retokenize() as retokenizer:
            retokenizer.merge(doc[:2])
        return doc

    nlp.add_pipe("merge_first_two", after="transformer")
    with pytest.raises(UserError, match="tokens of a Doc changed"):
        nlp("The pump failed.")


def test_a_plain_thinc_optimizer_trains_too(nlp):
    optimizer = nlp.create_optimizer()
    assert not hasattr(optimizer, "step_parameters")
    losses = [nlp.update(sample_examples(nlp), sgd=optimizer, losses={}) for _ in range(25)]
    assert losses[-1]["textcat"] < losses[0]["textcat"] and losses[-1]["ner"] < losses[0]["ner"]


def test_stock_listeners_learn_beside_our_heads(tiny):
    """spaCy's own tagger attaches to our encoder, and its gradient arrives."""
    listener = {"@architectures": "spacy-transformers.TransformerListener.v1", "grad_factor": 1.0}
    listener["pooling"] = {"@layers": "reduce_mean.v1"}
    config = {"model": {"@architectures": "spacy.Tagger.v2", "tok2vec": listener}}
    nlp = make_nlp(tiny(), heads=("textcat",), weighting=FLAT)
    nlp.add_pipe("tagger", config=config)

    def examples():
        examples = []
        for text, tags in (("The pump failed", ["D", "N", "V"]), ("A valve leaked", ["D", "N", "V"])):
            reference = nlp.make_doc(text)
            for token, tag in zip(reference, tags):
                token.tag_ = tag
            reference.cats = {"A": float(text[0] == "A"), "B": float(text[0] != "A")}
            examples.append(Example(nlp.make_doc(text), reference))
        return examples

    nlp.initialize(examples)
    tags_only = examples()
    for example in tags_only:
        example.reference.cats = {}
    optimizer = adamw(3e-3)
    nlp.update(tags_only, sgd=optimizer)  # the tagger's output layer starts at zero, and sends nothing at first
    assert sum(g.abs().sum() for g in trunk_gradient(nlp, [tags_only]).values()) > 0
    for _ in range(60):
        nlp.update(examples(), sgd=optimizer)
    docs = list(nlp.pipe(["The pump failed", "", "A valve leaked"]))
    assert [token.tag_ for token in docs[0]] == ["D", "N", "V"] and docs[2].cats["A"] > 0.5
    assert docs[0]._.trf_data is not None  # a stock component is last, and does not say when it is done
    assert len(nlp.get_pipe("transformer")._cache) == 0


@pytest.mark.parametrize("kind", ["parser", "spancat"])
def test_spacys_parser_and_spancat_learn_on_our_encoder(tiny, tmp_path, kind):
    """Each beside one of our heads, trained until it knows its examples, and the same when loaded again."""
    listener = {"@architectures": "spacy-transformers.TransformerListener.v1", "grad_factor": 1.0}
    listener["pooling"] = {"@layers": "reduce_mean.v1"}
    models = {
        "parser": {"@architectures": "spacy.TransitionBasedParser.v2", "state_type": "parser", "extra_state_tokens": False,
                   "hidden_width": 16, "maxout_pieces": 2, "use_upper": False, "tok2vec": listener},
        "spancat": {"@architectures": "spacy.SpanCategorizer.v1", "tok2vec": listener,
                    "reducer": {"@layers": "spacy.mean_max_reducer.v1", "hidden_size": 16},
                    "scorer": {"@layers": "spacy.LinearLogistic.v1", "nO": None, "nI": None}},
    }  # fmt: skip

    def examples():
        examples = []
        for text, part in (("The pump failed", 1), ("A valve leaked", 1)):
            reference = nlp.make_doc(text)
            reference.cats = {"A": float(text[0] == "A"), "B": float(text[0] != "A")}
            reference.spans["sc"] = [Span(reference, part, part + 1, "PART")]
            heads, deps = [1, 2, 2], ["det", "nsubj", "ROOT"]
            gold = Doc(nlp.vocab, words=[t.text for t in reference], spaces=[bool(t.whitespace_) for t in reference],
                       heads=heads, deps=deps, sent_starts=[True, False, False])  # fmt: skip
            gold.cats, gold.spans["sc"] = reference.cats, [Span(gold, part, part + 1, "PART")]
            examples.append(Example(nlp.make_doc(text), gold))
        return examples

    nlp = make_nlp(tiny(), heads=("textcat",), weighting=FLAT)
    nlp.add_pipe(kind, config={"model": models[kind], **({"min_action_freq": 1} if kind == "parser" else {})})
    nlp.initialize(examples)
    optimizer = adamw(3e-3)
    first = {name: p.clone() for name, p in nlp.get_pipe("transformer").encoder.model.named_parameters()}
    with nlp.select_pipes(disable="textcat"):
        for _ in range(3):
            nlp.update(examples(), sgd=optimizer)
        nlp("Oslo")  # takes the step that the last update left open
    assert any(not torch.equal(first[name], p) for name, p in nlp.get_pipe("transformer").encoder.model.named_parameters())
    for _ in range(80):
        nlp.update(examples(), sgd=optimizer)
    nlp.to_disk(tmp_path / kind)
    for pipeline in (nlp, spacy.load(tmp_path / kind)):
        doc = pipeline("A valve leaked")
        assert doc.cats["A"] > 0.5
        if kind == "parser":
            assert [token.dep_ for token in doc] == ["det", "nsubj", "ROOT"]
        else:
            assert [(span.text, span.label_) for span in doc.spans["sc"]] == [("valve", "PART")]


def test_without_a_transformer_or_weights_the_message_says_so(tiny):
    nlp = spacy.blank("en")
    nlp.add_pipe("mtl_textcat")
    with pytest.raises(UserError, match="not connected to a transformer"):
        nlp.initialize(lambda: sample_examples(nlp))
    nlp = spacy.blank("en")
    nlp.add_pipe("mtl_transformer", name="transformer")
    with pytest.raises(UserError, match="encoder_loader"):
        nlp.initialize(lambda: sample_examples(nlp))
    with pytest.raises(UserError, match="no weights yet"):
        nlp("text")


@pytest.mark.parametrize("mode", ["nlp.update", "training loop"])
def test_a_step_that_fails_in_a_head_leaves_nothing_behind(tiny, monkeypatch, mode):
    """The next step is what it would have been without the failed one, to the bit."""
    failed, clean = make_nlp(tiny()), make_nlp(tiny())
    clean.from_bytes(failed.to_bytes())
    head = failed.get_pipe("qa")
    monkeypatch.setattr(head, "loss", lambda *args: 1 / 0)
    sgd = adamw(1e-2) if mode == "nlp.update" else False
    with pytest.raises(ZeroDivisionError):
        failed.update(sample_examples(failed)[:4], sgd=sgd)
    monkeypatch.undo()
    parameters = failed.get_pipe("transformer").parameters()
    assert all(parameter.grad is None for parameter, _ in parameters.values())
    assert failed.to_bytes() == clean.to_bytes()  # no step is taken for it later on, either
    for nlp in (failed, clean):
        nlp.update(sample_examples(nlp), sgd=adamw(1e-2))
    assert failed.to_bytes() == clean.to_bytes()


def test_components_sourced_in_another_order_all_reach_the_encoder(tiny):
    """While the source lives: no component knows which pipeline it is called from."""
    made = make_nlp(tiny(), heads=("textcat", "ner", "qa"))
    nlp = spacy.blank("en", vocab=made.vocab)
    for name in ("transformer", "qa", "ner", "textcat"):
        nlp.add_pipe(name, source=made)
    transformer = nlp.get_pipe("transformer")
    for head in ("textcat", "ner", "qa"):
        text = "The pump failed."
        example = Example(nlp.make_doc(text), gold_doc(nlp, text, **GOLD[head]))
        before = {name: parameter.clone() for name, parameter in transformer.encoder.model.named_parameters()}
        nlp.update([example], sgd=adamw(1e-2))
        after = dict(transformer.encoder.model.named_parameters())
        assert any(not torch.equal(before[name], after[name]) for name in before), head
    doc = nlp("The pump failed in Oslo.")
    assert doc.cats and doc.has_annotation("ENT_IOB") and len(transformer._cache) == 0


def test_the_parameters_of_the_encoder_are_collected_in_one_walk(tiny, monkeypatch):
    """Counting the layers for each parameter took 90 ms a step with 6 layers, and grew with their square."""
    from mtl.encoder.pretrained import architecture

    nlp = make_nlp(tiny(), heads=("textcat",))
    encoder = nlp.get_pipe("transformer").encoder
    calls = []
    real = architecture.layer_of
    monkeypatch.setattr(architecture, "layer_of", lambda name: (calls.append(name), real(name))[1])
    parameters = encoder.trainable()
    names = [name for name, _ in encoder.model.named_parameters()]
    assert list(parameters) == names and len(calls) <= 3 * len(names)
    assert {below for _, below in parameters.values()} == {0, 1, 2}  # top layer, bottom layer, embeddings


def test_the_training_loop_takes_one_step_an_update(nlp, monkeypatch):
    """spaCy calls `finish_update` on the transformer first and on every head after it; no second step is left due."""
    transformer, steps = nlp.get_pipe("transformer"), []
    real = transformer.updates.take_step
    monkeypatch.setattr(transformer.updates, "take_step", lambda *given: (steps.append(1), real(*given)))
    optimizer = adamw(1e-3)
    for done in (1, 2):
        nlp.update(sample_examples(nlp), sgd=False)
        for _, pipe in nlp.pipeline:
            pipe.finish_update(optimizer)
        assert len(steps) == done and not transformer.updates.step_is_due


@pytest.mark.parametrize("kind", ["ours", "thinc"])
def test_a_step_has_the_rate_of_its_own_update(tiny, kind):
    """Also in a loop that advances the schedules after `nlp.update`, before the step is taken."""
    from thinc.api import Adam

    rates = [1e-2, 1e-4, 1e-2]
    make = {"ours": lambda rate: adamw(rate), "thinc": lambda rate: Adam(rate)}[kind]
    scheduled, by_hand = make_nlp(tiny(), heads=("textcat",)), make_nlp(tiny(), heads=("textcat",))
    by_hand.from_bytes(scheduled.to_bytes())
    optimizer, other = make(iter(rates + rates)), make(rates[0])
    for rate in rates:
        scheduled.update(sample_examples(scheduled), sgd=optimizer)
        optimizer.step_schedules()
        other.learn_rate = rate
        by_hand.update(sample_examples(by_hand), sgd=other)
        by_hand.get_pipe("transformer").take_due_step()
    scheduled_weights, by_hand_weights = (
        dict(nlp.get_pipe("transformer").encoder.model.named_parameters()) for nlp in (scheduled, by_hand)
    )
    for name, parameter in scheduled_weights.items():
        torch.testing.assert_close(parameter, by_hand_weights[name], atol=1e-7, rtol=1e-6)
