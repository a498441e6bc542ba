"""The questions spaCy asks of its own components, of ours."""

import os
import random
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import spacy
import torch
from conftest import HEADS, TASKS, gold_doc, make_nlp, overfit, sample_examples
from spacy.lang.en import English
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example

from mtl.errors import UserError
from mtl.tasks.ner.gold import allowed_tags
from mtl.training.saving import atomic_save

TEXTS = [
    "The pump failed in Oslo.",
    "The valve leaked.",
    "",
    " \n ",
    "Crew flew to Oslo again.",
    "👩‍🔧 é x̂ \u200b",
    "Nothing was found. " * 40,
]


def predictions(doc):
    """Everything that the heads have written: what is decided, and the numbers behind it."""
    spans = {key: [(s.start, s.end, s.label_, s.id_) for s in group] for key, group in doc.spans.items()}
    labels = {key: list(group.attrs.get("labels", ())) for key, group in doc.spans.items()}
    scores = {key: flat(group.attrs.get("scores", ())) for key, group in doc.spans.items()}
    decided = {"ents": [(e.start, e.end, e.label_) for e in doc.ents], "spans": spans, "labels": labels,
               "tags": [token.tag_ for token in doc]}  # fmt: skip
    return {**decided, "cats": dict(doc.cats), "scores": scores, "number": doc._.score if Doc.has_extension("score") else None}


def flat(scores):
    return [number for row in scores for number in (row.values() if isinstance(row, dict) else [row])]


def assert_close(actual, expected):
    """Equal decisions; scores to 1e-5, since the batch around a document changes the order of float sums."""
    assert (
        all(actual[key] == expected[key] for key in ("ents", "spans", "labels", "tags"))
        and actual["cats"].keys() == expected["cats"].keys()
    )
    assert list(actual["cats"].values()) == pytest.approx(list(expected["cats"].values()), abs=1e-5)
    assert actual["number"] == pytest.approx(expected["number"], abs=1e-4)
    for key in actual["scores"]:
        assert actual["scores"][key] == pytest.approx(expected["scores"][key], abs=1e-4)


@pytest.fixture(scope="module")
def trained(tiny):
    nlp = make_nlp(tiny(), model={"window": 48, "overlap": 8})
    overfit(nlp)
    nlp.evaluate(sample_examples(nlp))
    return nlp


def test_overfitting_then_saving_gives_the_same_predictions(trained, tmp_path):
    scores = trained.evaluate(sample_examples(trained))
    assert all(scores[TASKS[name].defaults()[0].headline(scores)] > 0.8 for name in TASKS), scores
    assert scores["cats_accuracy"] == 1.0 and scores["ents_f"] == 1.0
    trained.to_disk(tmp_path / "nlp")
    again = spacy.load(tmp_path / "nlp")
    from_bytes = English.from_config(trained.config)
    from_bytes.from_bytes(trained.to_bytes())
    for text in TEXTS:
        expected = predictions(trained(text))
        assert predictions(again(text)) == expected  # bit for bit
        assert predictions(from_bytes(text)) == expected
    for question in ("What failed?", "Who called?"):
        assert again(TEXTS[0])._.ask(question).text == trained(TEXTS[0])._.ask(question).text


def test_what_is_saved_is_one_copy_of_the_weights_without_pickle_or_paths(trained, tmp_path, tiny):
    atomic_save()(trained).to_disk(tmp_path / "nlp")  # as `spacy train` does with our configs
    files = [file for file in (tmp_path / "nlp").rglob("*") if file.is_file()]
    assert sum(file.name == "model.safetensors" and "encoder" in file.parts for file in files) == 1
    for file in files:
        data = file.read_bytes()
        assert tiny().encode() not in data and str(tmp_path).encode() not in data, file
        assert file.suffix not in (".pkl", ".bin", ".pt") or file.name == "lookups.bin", file
        assert not data.startswith((b"\x80\x04", b"PK\x03\x04")), f"{file} looks like a pickle"


BROKEN = ["ner/cfg", "ner/model.safetensors", "transformer/cfg"]
BROKEN += [f"transformer/encoder/{name}" for name in ("config.json", "model.safetensors", "tokenizer.json")]


@pytest.mark.parametrize("file", BROKEN)
def test_a_truncated_file_of_a_saved_pipeline_is_named(trained, tmp_path, file):
    trained.to_disk(tmp_path)
    data = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=re.escape(str(tmp_path / file))):
        spacy.load(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(UserError, match=re.escape(str(tmp_path / file))):
        spacy.load(tmp_path)


def test_a_saved_encoder_opens_with_transformers(trained, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    trained.to_disk(tmp_path / "nlp")
    folder = tmp_path / "nlp" / "transformer" / "encoder"
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ours = dict(trained.get_pipe("transformer").encoder.model.named_parameters())
    theirs = dict(model.named_parameters())
    assert all(torch.equal(theirs[name], parameter) for name, parameter in ours.items())
    assert tokenizer("a")["input_ids"]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_pipe_equals_call(trained, batch_size):
    for text, doc in zip(TEXTS, trained.pipe(TEXTS, batch_size=batch_size)):
        assert doc.text == text
        assert_close(predictions(doc), predictions(trained(text)))


def test_components_with_different_batch_sizes(trained):
    stream = (trained.make_doc(text) for text in TEXTS * 3)
    for (_, pipe), size in zip(trained.pipeline, (4, 3, 7, 2, 5, 1, 6)):
        stream = pipe.pipe(stream, batch_size=size)
    for text, doc in zip(TEXTS * 3, stream):
        assert_close(predictions(doc), predictions(trained(text)))


def test_a_document_of_100_000_tokens(trained):
    doc = trained("The pump failed in Oslo. " * 16_667)
    assert len(doc) >= 100_000
    assert len(doc.ents) > 1000 and doc.cats
    assert doc._.ask("What failed?").question == "What failed?"


def test_threads_give_exactly_the_single_thread_results(trained):
    texts = [
        " ".join(random.Random(i).choices(["The", "pump", "valve", "failed", "leaked", "in", "Oslo", "Bergen", "wire"], k=i % 30))
        for i in range(200)
    ]
    expected = [predictions(trained(text)) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        actual = list(pool.map(lambda text: predictions(trained(text)), texts))
    assert actual == expected


def test_processes_give_exactly_the_single_process_results(trained):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        texts = TEXTS * 4
        expected = [predictions(doc) for doc in trained.pipe(texts, batch_size=4)]
        actual = [predictions(doc) for doc in trained.pipe(texts, batch_size=4, n_process=2)]
    finally:
        torch.set_num_threads(threads)
    assert actual == expected


def test_processes_neither_hang_nor_warn_when_the_parent_used_threads(trained, capfd):
    torch.randn(512, 512) @ torch.randn(512, 512)
    list(trained.pipe(TEXTS * 4))
    assert len(list(trained.pipe(TEXTS * 4, batch_size=4, n_process=2))) == len(TEXTS) * 4
    assert "TOKENIZERS_PARALLELISM" not in os.environ and "tokenizers" not in capfd.readouterr().err


def test_questions_pass_through_processes(trained):
    docs = []
    for _ in range(6):
        doc = trained.make_doc("The pump failed in Oslo.")
        doc._.questions = ["What failed?"]
        docs.append(doc)
    assert [doc._.answers["q1"].text for doc in trained.pipe(docs, n_process=2, batch_size=2)] == ["The pump"] * 6


@pytest.mark.parametrize("head", list(HEADS))
def test_a_failing_document_goes_to_the_handler_and_the_stream_goes_on(tiny, head, monkeypatch):
    nlp = make_nlp(tiny())
    failed = []
    nlp.set_error_handler(lambda name, proc, docs, error: failed.append((name, [doc.text for doc in docs])))
    pipe = nlp.get_pipe(head)
    real = pipe.set_annotations

    def fail_on_leak(docs, scores):
        if any("leaked" in doc.text for doc in docs):
            raise RuntimeError("no")
        real(docs, scores)

    monkeypatch.setattr(pipe, "set_annotations", fail_on_leak)
    texts = ["The pump failed.", "The valve leaked.", "Crew flew.", "It leaked again."]
    assert [doc.text for doc in nlp.pipe(texts)] == ["The pump failed.", "Crew flew."]
    assert failed == [(head, ["The valve leaked."]), (head, ["It leaked again."])]


def test_a_document_that_fails_in_the_encoder(tiny):
    nlp = make_nlp(tiny())
    failed = []
    nlp.set_error_handler(lambda name, proc, docs, error: failed.append((name, str(error))))
    docs = [nlp.make_doc("The pump."), nlp.make_doc("The valve."), nlp.make_doc("The wire.")]
    docs[1]._.questions = ["why " * 500]
    assert [doc.text for doc in nlp.pipe(docs)] == ["The pump.", "The wire."]
    assert len(failed) == 1 and failed[0][0] == "qa" and "too many for window" in failed[0][1]


def test_vectors_are_forgotten_when_the_last_head_is_done(trained):
    list(trained.pipe(TEXTS))
    trained("The pump failed.")
    assert len(trained.get_pipe("transformer")._cache) == 0
    doc = next(trained.pipe(["The pump."], disable=["qa"]))
    assert doc.to_bytes()
    del doc
    assert len(trained.get_pipe("transformer")._cache) == 0


def test_disabled_heads_and_a_disabled_transformer(trained):
    with trained.select_pipes(disable=["ner"]):
        doc = trained("The pump failed in Oslo.")
        assert doc.cats and not doc.ents
    expected = predictions(trained("The pump failed in Oslo."))
    with trained.select_pipes(disable=["transformer"]):  # the heads have the Doc encoded themselves, once for all
        transformer = trained.get_pipe("transformer")
        before = transformer.encoder.passes
        assert predictions(trained("The pump failed in Oslo.")) == expected
        assert transformer.encoder.passes == before + 1


@pytest.mark.parametrize("disable", [[], ["textcat"], ["qa"], ["regressor"], ["ner", "tagger"], ["transformer"], list(HEADS)])
@pytest.mark.parametrize("batch_size", [8, 256])
def test_kept_docs_hold_no_vectors_whatever_is_disabled(trained, disable, batch_size):
    cache = trained.get_pipe("transformer")._cache
    docs = list(trained.pipe(["The pump failed in Oslo."] * 40, batch_size=batch_size, disable=disable))
    assert len(docs) == 40
    assert len(cache) == 0 or (disable == ["transformer"] and len(cache) <= 2 * batch_size)  # heads do not know each other


def test_incomplete_annotations_are_never_negative(tiny):
    """A document without categories or entities changes no gradient of those heads."""
    nlp = make_nlp(tiny())
    full = sample_examples(nlp)[0]
    bare = Example(nlp.make_doc("The pump failed."), nlp.make_doc("The pump failed."))
    with_bare, alone = (nlp.update(batch, sgd=False, losses={}) for batch in ([full, bare], [full]))
    for head in HEADS:
        assert with_bare[head] == pytest.approx(alone[head], abs=1e-5)
    assert nlp.update([bare], sgd=False, losses={}) == dict.fromkeys(nlp.pipe_names, 0.0)
    scores = nlp.evaluate([bare])
    assert all(task.defaults()[0].headline(scores) is None for task in TASKS.values()), scores


def test_partial_entities_train_without_the_missing_tokens(tiny):
    nlp = make_nlp(tiny(), heads=("ner",))
    reference = nlp.make_doc("The pump failed in Oslo .")
    reference.set_ents([reference.char_span(4, 8, label="PART")], missing=[reference[3:6]], default="outside")
    predicted = nlp.make_doc(reference.text)
    allowed = allowed_tags(Example(predicted, reference), ["LOC", "PART"], np.arange(6))
    assert allowed.sum(1).tolist() == [1, 1, 1, 5, 5, 5] and allowed[1, 3]
    # A token that is not annotated right after an entity may not go on with it.
    reference.set_ents([reference.char_span(4, 8, label="PART")], missing=[reference[2:6]], default="outside")
    allowed = allowed_tags(Example(predicted, reference), ["LOC", "PART"], np.arange(6))
    assert not allowed[2, 4] and allowed[2, [0, 1, 3]].all()


def test_gold_of_another_tokenization(tiny):
    nlp = make_nlp(tiny(), heads=("ner",))
    reference = Doc(nlp.vocab, words=["The pu", "mp failed in", "Oslo"], spaces=[False, True, False])
    reference.set_ents([Span(reference, 2, 3, label="LOC")], default="outside")
    allowed = allowed_tags(Example(nlp.make_doc(reference.text), reference), ["LOC"], np.arange(5))
    assert allowed[4].tolist() == [False, True, False] and allowed[:4, 0].all()


def test_no_label_bad_label_and_resize(tiny):
    nlp = make_nlp(tiny())
    textcat, ner = nlp.get_pipe("textcat"), nlp.get_pipe("ner")
    for head in (textcat, ner):
        with pytest.raises(ValueError):
            head.add_label(35)
        assert head.add_label(head.labels[0]) == 0
    before = nlp("The pump failed.")
    assert textcat.add_label("C") == 1 and ner.add_label("ACTION") == 1
    after = nlp("The pump failed.")
    assert set(after.cats) == {"A", "B", "C"} and len(ner.module.tags) == 7
    ratio = before.cats["A"] / before.cats["B"]
    assert after.cats["A"] / after.cats["B"] == pytest.approx(ratio, rel=1e-4)  # the others' weights are kept
    for head in ("textcat", "ner"):
        empty = spacy.blank("en")
        with pytest.raises(UserError, match=f"{head!r} has no training data"):
            make_nlp(tiny(), heads=(head,), examples=lambda nlp: [Example(nlp.make_doc("a"), nlp.make_doc("a"))])
        del empty


def test_one_exclusive_category_is_an_error(tiny):
    def examples(nlp):
        return [Example(nlp.make_doc("a"), gold_doc(nlp, "a", cats={"A": 1.0}))]

    with pytest.raises(UserError, match="exclusive = false"):
        make_nlp(tiny(), heads=("textcat",), examples=examples)
    make_nlp(tiny(), heads=("textcat",), examples=examples, textcat={"exclusive": False})


def test_several_categories_for_an_exclusive_head_are_an_error(tiny):
    def examples(nlp):
        return [Example(nlp.make_doc("a"), gold_doc(nlp, "a", cats={"A": 1.0, "B": 1.0}))]

    with pytest.raises(UserError, match=r"'a' has several categories .A, B.*exclusive = false"):
        make_nlp(tiny(), heads=("textcat",), examples=examples)
    make_nlp(tiny(), heads=("textcat",), examples=examples, textcat={"exclusive": False})


def test_multilabel_categories_learn_each_by_itself(tiny):
    rows = [("pump", 1, 1), ("valve", 0, 0), ("pump valve", 1, 0), ("wire", 0, 1)]

    def examples(nlp):
        return [Example(nlp.make_doc(t), gold_doc(nlp, t, cats={"A": float(a), "B": float(b)})) for t, a, b in rows]

    nlp = make_nlp(tiny(), heads=("textcat",), examples=examples, textcat={"exclusive": False})
    overfit(nlp, examples(nlp))
    for text, a, b in rows:
        cats = nlp(text).cats
        assert (cats["A"] > 0.5, cats["B"] > 0.5) == (bool(a), bool(b))
    unknown = Example(nlp.make_doc("pump"), gold_doc(nlp, "pump", cats={"A": 1.0}))  # B is not annotated
    assert nlp.update([unknown], sgd=False, losses={})["textcat"] < 0.1


def test_entities_are_valid_and_carry_probabilities(trained):
    for doc in trained.pipe([*TEXTS, "pump valve Oslo Bergen wire " * 20]):
        group = doc.spans["ner"]
        assert [(s.start, s.end, s.label_) for s in group] == [(e.start, e.end, e.label_) for e in doc.ents]
        assert len(group.attrs["scores"]) == len(doc.ents) and all(0 <= score <= 1 for score in group.attrs["scores"])
        assert doc.has_annotation("ENT_IOB") or not len(doc)


def test_entities_that_others_set_stay(trained):
    text = "The pump failed in Oslo."
    doc = trained.make_doc(text)
    doc.set_ents([Span(doc, 0, 2, "MINE"), Span(doc, 3, 4, "MINE")])
    assert [(e.text, e.label_) for e in trained(doc).ents] == [("The pump", "MINE"), ("in", "MINE"), ("Oslo", "LOC")]
    assert [span.text for span in doc.spans["ner"]] == ["Oslo"] and len(doc.spans["ner"].attrs["scores"]) == 1
    again = trained(trained(text))  # its own of before are no others'
    assert [e.text for e in again.ents] == [e.text for e in trained(text).ents] == [s.text for s in again.spans["ner"]]


def test_a_saved_pipeline_goes_on_learning(trained, tmp_path):
    trained.config["training"]["optimizer"] = {
        "@optimizers": "mtl.AdamW.v1",
        "learn_rate": {"@schedules": "mtl.WarmupLinear.v1", "peak_rate": 1e-4, "total_steps": "${training.max_steps}"},
    }
    atomic_save()(trained).to_disk(tmp_path / "nlp")
    nlp = spacy.load(tmp_path / "nlp")
    assert nlp.resume_training() and nlp.update(sample_examples(nlp))["ner"] > 0


def test_predictions_survive_docbin(trained):
    docs = list(trained.pipe(TEXTS))
    back = list(DocBin().from_bytes(DocBin(docs=docs, attrs=["ENT_IOB", "ENT_TYPE"]).to_bytes()).get_docs(trained.vocab))
    assert [predictions(doc)["ents"] for doc in back] == [predictions(doc)["ents"] for doc in docs]


def test_prediction_asks_no_network_and_leaves_torch_as_it_was(trained, monkeypatch):
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError("network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
    trained("The pump failed.")
    assert torch.get_num_threads() == threads and torch.is_grad_enabled() == grad
    assert not trained.get_pipe("transformer").encoder.training


@pytest.mark.parametrize("family", ["roberta", "distilbert", "deberta-v2", "modernbert", "gpt2", "mpnet", "electra"])
def test_the_whole_pipeline_overfits_on_every_family(tiny, family, tmp_path):
    nlp = make_nlp(tiny(family))
    losses = overfit(nlp, steps=60)
    assert losses[-1]["textcat"] < losses[0]["textcat"] / 2 and losses[-1]["ner"] < losses[0]["ner"] / 2
    nlp.to_disk(tmp_path)
    again = spacy.load(tmp_path)
    assert predictions(again(TEXTS[0])) == predictions(nlp(TEXTS[0]))
    empty = predictions(nlp(""))
    assert not empty["ents"] and not empty["tags"] and not any(empty["spans"].values()) and set(empty["cats"]) == {"A", "B"}


def test_smoothing_and_class_weights_of_categories(tiny):
    """The loss by hand from the head's own scores."""
    import math

    from conftest import gold_doc
    from spacy.training import Example

    def loss_of(**settings):
        nlp = make_nlp(tiny(), heads=("textcat",), textcat=settings)
        rows = [("The pump failed.", {"A": 1.0, "B": 0.0}), ("The valve leaked.", {"A": 0.0, "B": 1.0})]
        examples = [Example(nlp.make_doc(text), gold_doc(nlp, text, cats=cats)) for text, cats in rows]
        scores = [nlp(text).cats for text, _ in rows]
        return nlp.update(examples, sgd=False, losses={})["textcat"], scores

    loss, (first, second) = loss_of(label_smoothing=0.2, class_weights={"B": 3.0})
    logs = [{label: -math.log(score) for label, score in row.items()} for row in (first, second)]
    expected = 1 * (0.9 * logs[0]["A"] + 0.1 * logs[0]["B"]) + 3 * (0.1 * logs[1]["A"] + 0.9 * logs[1]["B"])
    assert loss == pytest.approx(expected / 4, rel=1e-3)
    loss, (first, second) = loss_of(exclusive=False, label_smoothing=0.2, class_weights={"B": 3.0})
    terms = [(1, 0.9, first["A"]), (3, 0.1, first["B"]), (1, 0.1, second["A"]), (3, 0.9, second["B"])]
    expected = sum(-w * (t * math.log(p) + (1 - t) * math.log(1 - p)) for w, t, p in terms) / 8
    assert loss == pytest.approx(expected, rel=1e-3)
    with pytest.raises(UserError, match=r"components.textcat.class_weights names C; the categories are A, B"):
        loss_of(class_weights={"C": 1.0})
    with pytest.raises(UserError, match=r"components.textcat.label_smoothing = 1"):
        loss_of(label_smoothing=1.0)
