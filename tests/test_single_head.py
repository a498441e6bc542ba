"""`mtl add-head`, `retrain-head` and `remove-head`: other components keep their outputs, bit for bit."""

import json

import pytest
import spacy
from conftest import gold_doc, make_nlp, overfit, sample_examples

from mtl.cli.app import app
from mtl.data.docs import write_docs
from mtl.errors import UserError
from mtl.training import run as training_run
from mtl.training import single_head
from mtl.training.resume import Recorder
from mtl.training.single_head import remove_head

TEXTS = ["The pump failed in Oslo.", "A valve at Bergen was bad!", "Nothing 12.5mg was-found; really?"]


def outputs(nlp):
    """Everything that the heads write, with all digits."""
    docs = []
    for doc in nlp.pipe(TEXTS):
        answers = doc._.ask("What failed?", n=1) if "qa" in nlp.pipe_names else []
        ents = [(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents]
        docs.append((dict(doc.cats), ents, [(answer.text, answer.score, answer.margin) for answer in answers]))
    return docs


@pytest.fixture
def finished(tiny, tmp_path):
    """A trained pipeline with categories and entities, and a customized tokenizer."""
    nlp = make_nlp(tiny(), heads=("textcat", "ner"))
    nlp.tokenizer.add_special_case("12.5mg", [{"ORTH": "12.5"}, {"ORTH": "mg"}])
    overfit(nlp, steps=15)
    nlp.to_disk(tmp_path / "finished")
    return tmp_path / "finished"


@pytest.fixture
def labelled(tmp_path):
    """Files with questions, and with other categories."""
    nlp = spacy.blank("en")
    asked = [eg.reference for eg in sample_examples(nlp) if "qa" in eg.reference.spans] * 3
    late = [gold_doc(nlp, f"The {part} failed {when}.", {"LATE": float(when == "late"), "EARLY": float(when != "late")})
            for part in ("pump", "valve", "fan") for when in ("late", "early") * 4]  # fmt: skip
    for name, docs in (("asked", asked), ("late", late)):
        write_docs(docs, tmp_path / f"{name}.spacy")
    return {name: str(tmp_path / f"{name}.spacy") for name in ("asked", "late")}


def run(*arguments):
    return app(list(map(str, arguments)), standalone_mode=False)


def test_a_head_can_be_added_and_removed(finished, labelled, tmp_path):
    """A short training, after which the outputs of the other heads are the same bits."""
    before = outputs(spacy.load(finished))
    data = ["--train", labelled["asked"], "--dev", labelled["asked"], "--epochs", "1", "--no-compare-unfrozen"]
    run("add-head", finished, "mtl_qa", "--name", "questions", "--out", tmp_path / "more", *data)
    nlp = spacy.load(tmp_path / "more")
    assert nlp.pipe_names == ["transformer", "textcat", "ner", "questions"] and outputs(nlp) == before
    assert list(json.loads((tmp_path / "more" / "head.json").read_text())["scores"]) == ["frozen"]
    run("remove-head", tmp_path / "more", "questions", "--out", tmp_path / "less")
    assert outputs(spacy.load(tmp_path / "less")) == before


@pytest.mark.slow
def test_an_added_head_leaves_the_others_as_they_are_to_the_bit(finished, labelled, tmp_path, capsys):
    before = outputs(spacy.load(finished))
    data = ["--train", labelled["asked"], "--dev", labelled["asked"], "--epochs", "20"]
    run("add-head", finished, "mtl_qa", "--out", tmp_path / "more", *data, "--set", "max_answer_tokens=4")
    nlp = spacy.load(tmp_path / "more")
    assert nlp.pipe_names == ["transformer", "textcat", "ner", "qa"] and nlp.get_pipe("qa").cfg["max_answer_tokens"] == 4
    assert [output[:2] for output in outputs(nlp)] == [output[:2] for output in before]
    assert [token.text for token in nlp("12.5mg")] == ["12.5", "mg"]
    report = json.loads((tmp_path / "more" / "head.json").read_text())
    assert set(report["scores"]) == {"frozen", "unfrozen"} and set(report["scores"]["frozen"]) >= {"qa_f1", "qa_em"}
    printed = capsys.readouterr().out
    assert "cost of the frozen encoder" in printed and "questions: token F1" in printed
    assert nlp("The pump failed in Oslo.")._.ask("What failed?")
    assert str(tmp_path) not in (tmp_path / "more" / "config.cfg").read_text()
    # Without the head, everything is as before.
    run("remove-head", tmp_path / "more", "qa", "--out", tmp_path / "less")
    assert outputs(spacy.load(tmp_path / "less")) == before


@pytest.mark.slow
def test_a_second_head_of_a_kind_can_be_added_and_a_head_retrained(finished, labelled, tmp_path, capsys):
    before = outputs(spacy.load(finished))
    data = [
        "--train",
        labelled["late"],
        "--dev",
        labelled["late"],
        "--epochs",
        "400",
        "--learning-rate",
        "1e-3",
        "--no-compare-unfrozen",
    ]
    run("add-head", finished, "mtl_textcat", "--name", "when", "--out", tmp_path / "two", *data)
    nlp = spacy.load(tmp_path / "two")
    for (cats, ents, _), (new_cats, new_ents, _) in zip(before, outputs(nlp)):
        assert {label: new_cats[label] for label in cats} == cats and new_ents == ents
        assert set(new_cats) - set(cats) == {"LATE", "EARLY"}
    assert nlp("The pump failed late.").cats["LATE"] > 0.5 > nlp("The pump failed early.").cats["LATE"]
    report = json.loads((tmp_path / "two" / "head.json").read_text())
    assert list(report["scores"]) == ["frozen"] and report["scores"]["frozen"]["cats_accuracy"] == 1.0

    capsys.readouterr()
    run("retrain-head", tmp_path / "two", "textcat", "--out", tmp_path / "retrained", *data)
    assert "the --dev files have none of the labels of the old 'textcat'" in capsys.readouterr().out
    again = spacy.load(tmp_path / "retrained")
    assert set(again.get_pipe("textcat").labels) == {"LATE", "EARLY"} and again.pipe_names == nlp.pipe_names
    assert [output[1] for output in outputs(again)] == [output[1] for output in before]


@pytest.fixture
def poor(tmp_path):
    """Two documents, from which nothing can be learned that holds for `sample_examples`; and those."""
    nlp = spacy.blank("en")
    write_docs([gold_doc(nlp, "Nothing.", {"A": 0.0, "B": 1.0}), gold_doc(nlp, "The pump.", {"A": 0.0, "B": 1.0})],
               tmp_path / "poor.spacy")  # fmt: skip
    write_docs([example.reference for example in sample_examples(nlp)], tmp_path / "good.spacy")
    return ["--train", tmp_path / "poor.spacy", "--dev", tmp_path / "good.spacy", "--epochs", "20", "--no-compare-unfrozen"]


def test_a_worse_head_is_shown_beside_the_old_one_and_not_written_without_force(finished, poor, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    nlp = spacy.load(finished)
    overfit(nlp, steps=60)
    nlp.to_disk(finished)
    with pytest.raises(UserError, match=r"new 'textcat' is worse than the old one .* nothing was written.* --force"):
        run("retrain-head", finished, "textcat", "--out", out, *poor)
    printed = capsys.readouterr()
    assert "before" in printed.out and "frozen" in printed.out and not out.exists()
    assert "W086" not in printed.err + printed.out and "Saved pipeline" not in printed.out

    def train_again(*arguments, **keywords):
        raise AssertionError("it is not trained again")

    with monkeypatch.context() as patched:
        patched.setattr(single_head, "train_config", train_again)
        run("retrain-head", finished, "textcat", "--out", out, "--force", *poor)
    scores = json.loads((out / "head.json").read_text())["scores"]
    assert scores["before"]["cats_macro_f"] > scores["frozen"]["cats_macro_f"]
    assert spacy.load(out)("The pump failed.").cats and sorted(path.name for path in tmp_path.glob("out*")) == ["out"]


def test_a_better_head_is_written(finished, labelled, poor, tmp_path, capsys):
    data = ["--train", tmp_path / "good.spacy", "--dev", tmp_path / "good.spacy", "--epochs", "60", "--learning-rate", "3e-3"]
    run("retrain-head", finished, "textcat", "--out", tmp_path / "out", "--no-compare-unfrozen", *data)
    scores = json.loads((tmp_path / "out" / "head.json").read_text())["scores"]
    assert scores["before"]["cats_macro_f"] <= scores["frozen"]["cats_macro_f"]


def test_ctrl_c_keeps_a_checkpoint_that_is_resumed(finished, poor, tmp_path, capsys, monkeypatch):
    class Interrupting(Recorder):
        def before_update(self, nlp, info):
            self.stop_requested = info["step"] == 1  # as Ctrl-C does
            super().before_update(nlp, info)

    data = [*poor, "--force"]
    with monkeypatch.context() as patched:
        patched.setattr(training_run, "Recorder", Interrupting)
        assert run("retrain-head", finished, "textcat", "--out", tmp_path / "out", *data) == 130
    assert list((tmp_path / "out.training" / "frozen" / "checkpoints").glob("step-*")) and not (tmp_path / "out").exists()
    with pytest.raises(UserError, match=r"seed was 0, is now 7.* start over with --no-resume"):
        run("retrain-head", finished, "textcat", "--out", tmp_path / "out", *data, "--seed", "7")
    capsys.readouterr()
    run("retrain-head", finished, "textcat", "--out", tmp_path / "out", *data)
    assert "resuming from" in capsys.readouterr().out and (tmp_path / "out" / "meta.json").exists()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["add-head", "{p}", "mtl_ner", "--train", "{late}", "--dev", "{late}"], "already has a component 'ner'"),
        (["add-head", "{p}", "mtl_sums", "--train", "{late}", "--dev", "{late}"], "no factory 'mtl_sums'"),
        (["add-head", "{p}", "mtl_qa", "--train", "{late}", "--dev", "{late}"], "'qa' has no training data"),
        (["add-head", "{p}", "mtl_qa", "--train", "nowhere.spacy", "--dev", "{late}"], "nowhere.spacy"),
        (["add-head", "{p}", "mtl_qa", "--train", "{asked}", "--dev", "{asked}", "--set", "a.b=1"], "as in exclusive=false"),
        (["retrain-head", "{p}", "nre", "--train", "{late}", "--dev", "{late}"], "no head 'nre'; its heads are textcat, ner"),
        (["remove-head", "{p}", "transformer"], "no head 'transformer'; its heads are textcat, ner"),
        (["remove-head", "./nowhere", "ner"], "no such pipeline"),
    ],
)
def test_user_errors_are_named_and_nothing_is_written(finished, labelled, tmp_path, arguments, words):
    with pytest.raises(UserError, match=words):
        run(*(argument.format(p=finished, **labelled) for argument in arguments), "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_failed_write_leaves_what_was_there(finished, tmp_path, monkeypatch):
    nlp = spacy.load(finished)
    remove_head(nlp, "ner", tmp_path / "out")
    before = (tmp_path / "out" / "config.cfg").read_text()
    nlp = spacy.load(finished)
    monkeypatch.setattr(type(nlp), "to_disk", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match="not enough disk space"):
        remove_head(nlp, "textcat", tmp_path / "out")
    assert (tmp_path / "out" / "config.cfg").read_text() == before
