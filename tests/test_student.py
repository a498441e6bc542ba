"""`mtl distill --student`: a pipeline on another encoder, taught by finished ones."""

import json

import pytest
import spacy
from conftest import gold_doc, make_nlp, overfit, sample_examples, save_tiny

from mtl.cli.app import app
from mtl.data.docs import read_docs, write_docs
from mtl.errors import UserError
from mtl.training import student as student_module

HEADS = ("textcat", "ner", "qa")
DEV_TEXT = "The pump failed badly in Bergen on a dark and stormy night in the middle of november."
OTHER_TEXT = "A wholly different sentence that no labelled file has, and that is long enough to be kept as text."


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A wide teacher with three heads, one with entities alone; a small encoder with another vocabulary; files."""
    folder = tmp_path_factory.mktemp("student")
    for name, heads in (("teacher", HEADS), ("entities", ("ner",))):
        nlp = make_nlp(save_tiny("bert", folder / f"{name}_encoder", hidden_size=48), heads)
        overfit(nlp, steps=80)
        nlp.to_disk(folder / name)
    save_tiny("distilbert", folder / "small")
    examples = [example.reference for example in sample_examples(nlp)]
    write_docs(examples, folder / "labelled.spacy")
    dev = [gold_doc(nlp, DEV_TEXT, {"WEAR": 1.0, "OTHER": 0.0}, [(4, 8, "PART")], {"What failed?": "pump"})]
    write_docs(dev, folder / "dev.spacy")
    texts = [example.text for example in sample_examples(nlp)]
    (folder / "domain.txt").write_text("\n\n".join([*texts, OTHER_TEXT]))
    return folder


def distill(project, *arguments, teachers=("teacher",), encoder="small"):
    paths = [project / name for name in teachers]
    options = ["--student", project / encoder, "--dev", project / "dev.spacy", *arguments]
    return app(["distill", *map(str, [*paths, *options])], standalone_mode=False)


def test_a_student_has_every_head_and_learns_from_text_alone(project, tmp_path, capsys):
    """The texts are those that the teacher knows; no labelled document is given."""
    distill(project, "--text", project / "domain.txt", "--epochs", "1000", "--learning-rate", "3e-3", "--out", tmp_path / "out")
    printed = capsys.readouterr().out
    student, teacher = spacy.load(tmp_path / "out" / "student"), spacy.load(project / "teacher")
    assert student.pipe_names == teacher.pipe_names
    assert student.get_pipe("transformer").encoder.model.config.model_type == "distilbert"
    assert [head.labels for head in (student.get_pipe("ner"), student.get_pipe("textcat"))] == [
        teacher.get_pipe("ner").labels, teacher.get_pipe("textcat").labels
    ]  # fmt: skip
    agreeing = 0
    for example in sample_examples(teacher):
        theirs, ours = teacher(example.text), student(example.text)
        agreeing += [(e.text, e.label_) for e in theirs.ents] == [(e.text, e.label_) for e in ours.ents]
        assert max(theirs.cats, key=theirs.cats.get) == max(ours.cats, key=ours.cats.get)
    assert agreeing >= 7  # of 8
    report = json.loads((tmp_path / "out" / "distill.json").read_text())
    assert list(report["students"]) == ["teacher", "student"] and report["texts"] == 9 and report["encoder"] == "small"
    assert str(tmp_path) not in (tmp_path / "out" / "student" / "config.cfg").read_text()
    assert str(project) not in (tmp_path / "out" / "student" / "config.cfg").read_text()
    assert str(tmp_path / "out" / "student") in printed and "over teacher" in printed
    assert not (tmp_path / "out.training").exists()


def test_labelled_documents_ask_their_questions_of_texts(project, tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(student_module.shutil, "rmtree", lambda path, **kwargs: kept.append(path))
    distill(project, "--text", project / "domain.txt", "--labelled", project / "labelled.spacy", "--epochs", "1",
            "--out", tmp_path / "out")  # fmt: skip
    docs = list(read_docs(tmp_path / "out.training" / "texts.spacy", spacy.blank("en").vocab))
    known = {
        question
        for doc in read_docs(project / "labelled.spacy", spacy.blank("en").vocab) if "qa" in doc.spans
        for question in doc.spans["qa"].attrs["questions"].values()
    }  # fmt: skip
    asked = {question for doc in docs for question in doc.spans["open_questions"].attrs["questions"].values()}
    assert kept and asked and asked <= known and not any("qa" in doc.spans for doc in docs)


def test_without_labelled_documents_texts_are_asked_about_their_own_words(project, tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(student_module.shutil, "rmtree", lambda path, **kwargs: kept.append(path))
    distill(project, "--text", project / "domain.txt", "--epochs", "1", "--out", tmp_path / "out")
    docs = list(read_docs(tmp_path / "out.training" / "texts.spacy", spacy.blank("en").vocab))
    asked = [question for doc in docs for question in doc.spans["open_questions"].attrs["questions"].values()]
    assert kept and len(asked) >= len(docs) and all("what" in question for question in asked)


def test_text_of_the_dev_documents_is_left_out_and_counted(project, tmp_path, capsys):
    text = tmp_path / "overlapping.txt"
    text.write_text(f"{DEV_TEXT}\n\n{OTHER_TEXT}\n")
    distill(project, "--text", text, "--epochs", "1", "--out", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "distill.json").read_text())["texts"] == 1
    assert "in a labelled document: The pump failed badly" in capsys.readouterr().out


def test_heads_of_several_teachers_come_together(project, tmp_path):
    """Entities are taught by both, the rest by one of them."""
    distill(
        project, "--text", project / "domain.txt", "--epochs", "1", "--out", tmp_path / "out", teachers=("entities", "teacher")
    )
    report = json.loads((tmp_path / "out" / "distill.json").read_text())
    assert list(report["students"]) == ["entities", "teacher", "student"]
    assert set(spacy.load(tmp_path / "out" / "student").pipe_names) == {"transformer", *HEADS}


def test_texts_are_asked_what_any_of_the_teachers_can_answer(project, tmp_path, monkeypatch):
    """The first teacher has no head for questions, the second has one."""
    monkeypatch.setattr(student_module.shutil, "rmtree", lambda path, **kwargs: None)
    distill(project, "--text", project / "domain.txt", "--labelled", project / "labelled.spacy", "--epochs", "1",
            "--out", tmp_path / "out", teachers=("entities", "teacher"))  # fmt: skip
    docs = read_docs(tmp_path / "out.training" / "texts.spacy", spacy.blank("en").vocab)
    assert all("open_questions" in doc.spans for doc in docs)


def test_in_rounds_each_student_teaches_the_next_and_the_best_is_kept(project, tmp_path, monkeypatch):
    taught_by = []
    real = student_module.train_config

    def look(config, folder, **kwargs):
        taught_by.append(config["initialize"]["components"]["ner"]["teacher"]["pipelines"])
        return real(config, folder, **kwargs)

    monkeypatch.setattr(student_module, "train_config", look)
    distill(project, "--text", project / "domain.txt", "--epochs", "1", "--rounds", "3", "--out", tmp_path / "out")
    work = tmp_path / "out.training"
    assert taught_by == [[str(project / "teacher")], *([str(work / f"round {i}" / "model-best")] for i in (1, 2))]
    report = json.loads((tmp_path / "out" / "distill.json").read_text())
    rounds = [name for name in report["students"] if name.startswith("round")]
    means = {name: sum(report["students"][name]["scores"].values()) for name in rounds}
    assert len(rounds) == 3 and means[report["best"]] == max(means.values())
    assert spacy.load(tmp_path / "out" / "student").pipe_names == ["transformer", *HEADS]


def test_an_interrupted_run_resumes(project, tmp_path, monkeypatch):
    arguments = ("--text", project / "domain.txt", "--epochs", "3", "--out", tmp_path / "out")
    real = student_module.train_config
    monkeypatch.setattr(student_module, "train_config", lambda *args, **kwargs: (None, True))
    with pytest.raises(KeyboardInterrupt):
        student_module.teach_student(
            [str(project / "teacher")], str(project / "small"), ["The pump failed in Oslo."], [], [project / "dev.spacy"],
            tmp_path / "out", student_module.StudentSettings(), print,
        )  # fmt: skip
    assert (tmp_path / "out.training" / "run.json").exists() and not (tmp_path / "out").exists()
    monkeypatch.setattr(student_module, "train_config", real)
    with pytest.raises(UserError, match="--no-resume"):
        distill(project, *arguments)
    distill(project, *arguments, "--no-resume")
    assert (tmp_path / "out" / "student").exists() and not (tmp_path / "out.training").exists()


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "there is no text to learn from"),
        (["--layers", "2", "--text", "{folder}/domain.txt"], "--student has its own layers"),
        (["--text", "{folder}/domain.txt", "--temperature", "0"], "temperature = 0"),
        (["--text", "{folder}/domain.txt", "--gold-share", "2"], "gold-share = 2"),
        (["--text", "{folder}/domain.txt", "--rounds", "0"], "rounds = 0"),
        (["--text", "{folder}/domain.txt", "--min-confidence", "1"], r"min-confidence = 1: .* the highest confidence is 0\.\d"),
    ],
)
def test_what_cannot_work_is_said_before_training(project, tmp_path, arguments, words):
    with pytest.raises(UserError, match=words):
        distill(project, *(argument.format(folder=project) for argument in arguments), "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_teachers_that_do_not_fit_are_refused(project, tmp_path, monkeypatch):
    text = ["--text", str(project / "domain.txt"), "--dev", str(project / "dev.spacy"), "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match="several teachers need a --student"):
        app(["distill", str(project / "teacher"), str(project / "entities"), *text], standalone_mode=False)
    with pytest.raises(UserError, match="no_such_encoder"):
        distill(project, *text, encoder="no_such_encoder")
    blank = spacy.blank("en")
    blank.add_pipe("sentencizer")
    blank.to_disk(tmp_path / "blank")
    with pytest.raises(UserError, match="has no head of ours; its components are sentencizer"):
        distill(project, *text, teachers=[tmp_path / "blank"])
    monkeypatch.setattr(student_module, "free_memory", lambda: 1000)
    with pytest.raises(UserError, match=r"the weights of the teachers are .* GB, and .* GB of memory are free"):
        distill(project, *text)
