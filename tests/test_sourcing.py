"""Components that several pipelines share: what one pipeline does is right whatever the others are."""

import gc

import pytest
import spacy
from conftest import HEADS, gold_doc, make_nlp, sample_examples
from spacy.training import Example

from mtl.errors import UserError
from mtl.training.optimizer import adamw

TEXT = "The pump failed in Oslo."


def sourced(source, names, renamed=None):
    """A pipeline with these components of another, in this order."""
    nlp = spacy.blank("en", vocab=source.vocab)
    for name in names:
        nlp.add_pipe(name, source=source, name=(renamed or {}).get(name, name))
    return nlp


def facts(doc):
    numbers = [*doc.cats.values(), *doc.spans["ner"].attrs["scores"], doc._.score]
    return [(ent.text, ent.label_) for ent in doc.ents], [round(number, 4) for number in numbers]


def encoder_moves(nlp, examples):
    weight = nlp.get_pipe("transformer").encoder.model.get_input_embeddings().weight
    before = weight.detach().clone()
    nlp.update(examples, sgd=adamw(1e-2))
    nlp.get_pipe("transformer").take_due_step()
    return float((weight - before).abs().sum())


@pytest.fixture
def source(tiny):
    return make_nlp(tiny())


@pytest.mark.parametrize("order", [list(HEADS), list(HEADS)[::-1], ["qa", *(name for name in HEADS if name != "qa")]])
def test_sourced_in_any_order_both_pipelines_predict_the_same(source, order):
    expected = facts(source(TEXT))
    other = sourced(source, ["transformer", *order])
    for nlp in (other, source, other):
        assert facts(nlp(TEXT)) == expected
        assert [facts(doc) for doc in nlp.pipe([TEXT] * 3)] == [expected] * 3
        assert nlp(TEXT)._.ask("What failed?") is not None


@pytest.mark.parametrize("head", HEADS)
def test_every_head_moves_the_encoder_in_a_sourced_pipeline(source, head):
    """Also the ones that the source has and this pipeline lacks, and those that are not the last."""
    gold = {
        "textcat": {"cats": {"A": 1.0, "B": 0.0}},
        "ner": {"ents": [(4, 8, "PART")]},
        "qa": {"qas": {"What?": "The pump"}},
        "tagger": {"tags": list("DNVPN.")},
        "regressor": {"score": 1.0},
        "span_classifier": {"attributes": {"pump": ["BAD"]}},
    }
    for names in (["qa", *(name for name in HEADS if name != "qa")], [head]):
        nlp = sourced(source, ["transformer", *names])
        example = Example(nlp.make_doc(TEXT), gold_doc(nlp, TEXT, **gold[head]))
        assert encoder_moves(nlp, [example]) > 0
    assert encoder_moves(source, [Example(source.make_doc(TEXT), gold_doc(source, TEXT, **gold[head]))]) > 0


@pytest.mark.parametrize("names", [["qa"], ["ner"], ["textcat", "qa"]])
def test_kept_docs_of_a_smaller_sourced_pipeline_hold_no_vectors(source, names):
    nlp = sourced(source, ["transformer", *names])
    cache = nlp.get_pipe("transformer")._cache
    docs = list(nlp.pipe([TEXT] * 200, batch_size=64))
    assert len(docs) == 200 and len(cache) == 0
    kept = [nlp(TEXT) for _ in range(20)]
    assert len(kept) == 20 and len(cache) <= 2


def test_a_doc_that_failed_in_a_head_holds_nothing(source, monkeypatch):
    head = source.get_pipe("ner")
    predict = head.predict
    monkeypatch.setattr(head, "predict", lambda docs: 1 / 0 if any("bad" in doc.text for doc in docs) else predict(docs))
    failed = []
    source.set_error_handler(lambda name, proc, docs, error: failed.extend(docs))
    passed = list(source.pipe([TEXT, "A bad one.", TEXT] * 5, batch_size=4))
    assert len(passed) == 10 and len(failed) == 5
    assert len(source.get_pipe("transformer")._cache) == 0


def test_two_streams_in_one_thread_know_their_own_heads(source):
    other = sourced(source, ["transformer", "textcat"])
    first, second = source.pipe([TEXT] * 30, batch_size=4), other.pipe([TEXT] * 30, batch_size=4)
    pairs = list(zip(first, second))
    assert len(pairs) == 30 and list(first) == list(second) == []
    assert all(a.cats == pytest.approx(b.cats) and a.has_annotation("ENT_IOB") and not b.ents for a, b in pairs)
    assert len(source.get_pipe("transformer")._cache) == 0


def test_a_deleted_pipeline_is_forgotten(source):
    transformer = source.get_pipe("transformer")
    extra = make_nlp_beside(source)
    assert len(transformer._heads) == len(HEADS) + 1
    del extra
    gc.collect()
    assert len(transformer._heads) == len(HEADS)


def make_nlp_beside(source):
    """A pipeline with the same transformer and a new categorizer of the same name."""
    nlp = sourced(source, ["transformer"])
    nlp.add_pipe("mtl_textcat", name="textcat")
    nlp.get_pipe("textcat").initialize(lambda: sample_examples(nlp), nlp=nlp)
    return nlp


def test_heads_of_one_name_in_two_pipelines_are_both_trained(source):
    nlp = make_nlp_beside(source)
    optimizer = adamw(1e-2)
    for pipeline in (nlp, source, nlp):
        head = pipeline.get_pipe("textcat")
        before = head.module.output.weight.detach().clone()
        pipeline.update(sample_examples(pipeline), sgd=optimizer)
        assert not head.module.output.weight.equal(before)


@pytest.mark.parametrize("how", ["rename_pipe", "source"])
def test_a_renamed_head_keeps_its_weight(tiny, how):
    weighting = {"@misc": "mtl.StaticWeighting.v1", "weights": {"ner": 3.0}, "normalize": False}
    nlp = make_nlp(tiny(), heads=("textcat", "ner"), weighting=weighting)
    if how == "rename_pipe":
        nlp.rename_pipe("ner", "entities")
    else:
        nlp = sourced(nlp, ["transformer", "ner", "textcat"], {"ner": "entities"})
    optimizer = adamw(1e-3)
    for _ in range(2):
        nlp.update(sample_examples(nlp), sgd=optimizer)
    assert nlp.get_pipe("transformer").statistics["weight/entities"] == 3.0


def test_a_weight_that_no_head_has_is_said_when_training_begins(tiny, tmp_path, caplog):
    """The config of a saved pipeline still has the old name."""
    weighting = {"@misc": "mtl.StaticWeighting.v1", "weights": {"ner": 3.0}}
    nlp = make_nlp(tiny(), heads=("textcat", "ner"), weighting=weighting)
    nlp.rename_pipe("ner", "entities")
    nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    for _ in range(2):
        loaded.update(sample_examples(loaded), sgd=adamw(1e-3))
    assert caplog.text.count("components.transformer.weighting.weights names ner, which is no head") == 1


@pytest.mark.parametrize("head", HEADS)
def test_replacing_listeners_is_refused_at_the_call(source, head):
    with pytest.raises(UserError, match=r"replace_listeners: .*'mtl_transformer' cannot be copied into "):
        source.replace_listeners("transformer", head, ["model.encoder"])
    assert facts(source(TEXT))  # nothing was changed
    assert source.get_pipe_config(head)["model"]["encoder"]["@architectures"] == "mtl.EncoderListener.v1"


def test_replacing_listeners_in_a_config_is_refused_too(source, tmp_path):
    source.to_disk(tmp_path / "source")
    config = spacy.blank("en").config
    config["nlp"]["pipeline"] = ["textcat"]
    config["components"] = {"textcat": {"source": str(tmp_path / "source"), "replace_listeners": ["model.encoder"]}}
    with pytest.raises(UserError, match="replace_listeners"):
        spacy.util.load_model_from_config(config)
