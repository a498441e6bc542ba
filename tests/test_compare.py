"""`mtl compare`: intervals, tables and summaries, runs, and resuming after an interruption."""

import json
import math
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
from conftest import TEXTS, gold_doc, save_tiny
from spacy.lang.en import English
from spacy.tokens import DocBin
from spacy.vocab import Vocab
from thinc.api import Config

from mtl import compat
from mtl.adaptation.settings import AdaptSettings
from mtl.compare.adaptation import compare_adaptation, is_clear, paired
from mtl.compare.arms import ARMS, BASE, AdaptedEncoder, check_arms, make_arms
from mtl.compare.differences import MEAN, differences, paired_difference, with_mean
from mtl.compare.report import difference_summary, difference_table
from mtl.compare.runs import CompareSettings, Runs, TrainingRun
from mtl.compare.sharing import only_head
from mtl.data.docs import read_docs, write_docs
from mtl.errors import UserError
from mtl.tasks.ner.task import dictionary_f1
from mtl.tasks.textcat.task import TextcatTask

CONFIG = """
[nlp]
lang = "en"
pipeline = ["transformer", "textcat", "ner"]
[components]
[components.transformer]
factory = "mtl_transformer"
[components.transformer.model]
@architectures = "mtl.Encoder.v1"
device = "cpu"
[components.textcat]
factory = "mtl_textcat"
[components.ner]
factory = "mtl_ner"
[system]
seed = 0
[corpora]
[corpora.train]
@readers = "mtl.MultiTaskCorpus.v1"
seed = ${{system.seed}}
[corpora.train.paths]
all = "{train}"
[corpora.dev]
@readers = "spacy.Corpus.v1"
path = "{dev}"
[training]
train_corpus = "corpora.train"
dev_corpus = "corpora.dev"
seed = ${{system.seed}}
gpu_allocator = null
max_steps = 4
max_epochs = -1
eval_frequency = 2
[training.optimizer]
@optimizers = "mtl.AdamW.v1"
[training.score_weights]
cats_accuracy = 0.5
ents_f = 0.5
[initialize]
[initialize.components]
[initialize.components.transformer]
[initialize.components.transformer.encoder_loader]
@misc = "mtl.HuggingFaceLoader.v1"
name = "{encoder}"
"""


def test_the_interval_is_students():
    """Differences of 1, 2 and 3 points: their mean, give or take t(0.975, 2) = 4.3027 times the standard error."""
    difference = paired_difference([0.50, 0.60, 0.70], [0.51, 0.62, 0.73])
    assert difference.mean == pytest.approx(2.0)
    assert (difference.low, difference.high) == pytest.approx((2 - 4.3027 / math.sqrt(3), 2 + 4.3027 / math.sqrt(3)), abs=1e-4)
    assert difference.verdict == "no difference seen"
    assert paired_difference([0.5, 0.6, 0.7], [0.52, 0.62, 0.72]).verdict == "helped"
    assert paired_difference([0.5, 0.6, 0.7], [0.48, 0.579, 0.68]).verdict == "hurt"
    single = paired_difference([0.1], [0.9])
    assert single.verdict == "no difference seen" and single.low == -math.inf


def test_the_mean_is_weighted_as_the_config_says():
    scores = {"ents_f": 0.8, "ents_p": 0.1, "cats_accuracy": 0.4, "qa_f1": None}
    assert with_mean(scores, {"ents_f": 3.0, "cats_accuracy": 1.0, "ents_p": None, "qa_f1": 1.0}) == {
        "ents_f": 0.8, "cats_accuracy": 0.4, MEAN: pytest.approx(0.7)
    }  # fmt: skip
    assert set(differences([{"a": 0.1, "b": 1}], [{"a": 0.2}])) == {"a"}


@pytest.fixture
def project(tmp_path):
    """A config, labelled files, domain text and an encoder, all tiny."""
    nlp = English()
    docs = [
        gold_doc(nlp, f"{part} {i} failed in {place}.", {"A": float(i % 2), "B": float(1 - i % 2)}, [(0, len(part), "PART")])
        for i, (part, place) in enumerate(
            product(("pump", "fan", "door", "valve"), ("Oslo", "climb", "bay 4", "the hold", "rain"))
        )
    ]
    write_docs(docs[::2] + docs[1:14:2], tmp_path / "train.spacy")
    write_docs(docs[15::2], tmp_path / "dev.spacy")
    (tmp_path / "domain.txt").write_text("\n\n".join(f"{text} number {i} of the fleet" for i in range(12) for text in TEXTS))
    encoder = save_tiny("bert", tmp_path / "encoder", max_position_embeddings=160)
    paths = {"train": tmp_path / "train.spacy", "dev": tmp_path / "dev.spacy", "encoder": encoder}
    (tmp_path / "config.cfg").write_text(CONFIG.format(**paths))
    return tmp_path


def compare(project, *more):
    from mtl.cli.app import app

    return app(
        ["compare", str(project / "config.cfg"), str(project / "dev.spacy"), "--adaptation", "--out", str(project / "out"),
         "--text", str(project / "domain.txt"), "--max-tokens", "4000", "--seeds", "2", "--label-fractions", "0.5,1", *more],
        standalone_mode=False,
    )  # fmt: skip


@pytest.mark.slow
def test_compare_adaptation(project, capsys):
    pytest.importorskip("matplotlib", reason="the plot needs it: pip install spacy-mtl[compare]")
    compare(project)
    printed = capsys.readouterr().out
    result = json.loads((project / "out" / "comparison.json").read_text())
    arms = ["base", "task text", "domain text", "domain, then task text"]
    assert list(result["arms"]) == arms and len(result["runs"]) == 4 * 2 * 2
    assert [len(result["arms"][arm].get("steps", ())) for arm in arms] == [0, 1, 1, 2]
    assert all(step["tokens"] >= 4000 for arm in arms[1:] for step in result["arms"][arm]["steps"])
    rows = result["differences"]
    assert len(rows) == 3 * 2 * 3 and {row["score"] for row in rows} == {"cats_accuracy", "ents_f", MEAN}
    scores = {(run["arm"], run["label_fraction"], run["seed"]): run["scores"] for run in result["runs"]}
    row = next(row for row in rows if (row["arm"], row["label_fraction"], row["score"]) == ("domain text", 1.0, "ents_f"))
    apart = [100 * (scores["domain text", 1.0, seed]["ents_f"] - scores["base", 1.0, seed]["ents_f"]) for seed in (0, 1)]
    assert row["difference"] == pytest.approx(sum(apart) / 2) and row["low"] <= row["difference"] <= row["high"]
    assert "16 of 16" in printed and "With 50% of the labels, domain text: " in printed and "entities: F1" in printed
    assert (project / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    texts = (project / "out" / "comparison.json").read_text()
    assert "versions" in texts and str(project) not in texts


def test_every_arm_gets_the_same_minutes(project):
    """An arm with two continuations halves them."""
    runs = Runs(project / "config.cfg", [project / "dev.spacy"], project / "out")
    budget = AdaptSettings(max_minutes=0.02, precision="fp32", head_only_ratio=0.5)
    arms = make_arms(runs, "", [str(project / "domain.txt")], [], budget, print)
    minutes = {file.parent.name: json.loads(file.read_text()) for file in (project / "out" / "encoders").glob("*/adapt.json")}
    given = {name: report["settings"]["max_minutes"] for name, report in minutes.items()}
    by_arm = {arm: given.get(Path(encoder.name).name) for arm, encoder in arms.items()}
    assert by_arm == {"base": None, "task text": 0.02, "domain text": 0.02, "domain, then task text": 0.01}
    assert sorted(given.values()) == [0.01, 0.01, 0.02, 0.02]
    assert len(arms["domain, then task text"].cost["steps"]) == 2 and all(
        r["settings"]["max_tokens"] == 0 for r in minutes.values()
    )


def test_every_arm_can_be_made(project):
    """Each has its own encoder, of as many continuations as it says, within the minutes."""
    pytest.importorskip("bm25s", reason="finds neighbours: pip install spacy-mtl[neighbours]")
    runs = Runs(project / "config.cfg", [project / "dev.spacy"], project / "out")
    budget = AdaptSettings(max_minutes=0.02, precision="fp32", head_only_ratio=0.5)
    encoders = make_arms(runs, "", [str(project / "domain.txt")], [], budget, print, list(ARMS))
    assert list(encoders) == [BASE, *(arm.title for arm in ARMS.values())]
    starts = {(encoder.weights, encoder.teacher, encoder.has_auxiliary) for encoder in encoders.values()}
    assert len(starts) == len(encoders)
    for arm in ARMS.values():
        assert len(encoders[arm.title].cost["steps"]) == len(arm.continuations)
    taught = encoders[ARMS["taught"].title]
    assert taught.name == encoders[BASE].name and taught.teacher == encoders[ARMS["domain"].title].name
    detours = [json.loads(file.read_text())["settings"] for file in (project / "out" / "encoders").glob("*/adapt.json")]
    assert sum(settings["causal_ratio"] > 0 for settings in detours) == 1


def test_an_arm_without_time_for_a_step_is_named(project):
    runs = Runs(project / "config.cfg", [project / "dev.spacy"], project / "out")
    with pytest.raises(UserError, match=r"the arm 'task': max-minutes = .*one step takes"):
        make_arms(runs, "", [], [], AdaptSettings(max_minutes=1e-7, precision="fp32"), print, ["task"])


def test_arms_without_text_or_of_unknown_names_are_refused():
    assert check_arms([], True) == ["task", "domain", "both"] and check_arms([], False) == ["task"]
    with pytest.raises(UserError, match="--arms task,near: near need --text"):
        check_arms(["task", "near"], False)
    with pytest.raises(UserError, match="no arm 'domian'; there are task, domain"):
        check_arms(["domian"], True)


def result_of(arm, seed, mean):
    return {"arm": arm, "seed": seed, "label_fraction": 1.0, "scores": {MEAN: mean, "ents_f": mean}}


def test_an_arm_is_clear_only_by_the_stricter_interval():
    results = [result_of("base", seed, 0.5 + 0.01 * seed) for seed in range(4)]
    results += [result_of("far", seed, 0.8 + 0.01 * seed + 0.0001 * (seed % 2)) for seed in range(3)]
    results += [result_of("near", seed, 0.51 + 0.01 * seed + 0.005 * (seed % 2)) for seed in range(4)]
    assert is_clear(*paired(results, 1.0, "base", "far"))
    near = paired(results, 1.0, "base", "near")
    assert paired_difference([s[MEAN] for s in near[0]], [s[MEAN] for s in near[1]]).verdict == "helped"
    assert not is_clear(*near)
    assert not is_clear([], []) and not is_clear([{MEAN: 0.1}], [{MEAN: 0.9}])  # one seed has no interval


def test_masked_words_are_learned_beside_the_heads_and_teachers_teach(project, monkeypatch):
    """Two arms that change more than the encoder; the teacher's pipeline is trained first, on its own encoder."""
    trained = []
    init = compat.init_nlp

    def look(config, **given):
        nlp = init(config, **given)
        components = config.interpolate()["initialize"]["components"]
        trained.append(
            (nlp.pipe_names, Path(components["transformer"]["encoder_loader"]["name"]).name, components.get("ner", {}))
        )
        return nlp

    monkeypatch.setattr(compat, "init_nlp", look)
    runs = Runs(project / "config.cfg", [project / "dev.spacy"], project / "out")
    budget = AdaptSettings(max_tokens=4000, precision="fp32")
    arms = make_arms(runs, "", [str(project / "domain.txt")], [], budget, lambda _: None, ["beside", "taught"])
    result = compare_adaptation(runs, arms, CompareSettings(1, (1.0,)), lambda _: None)
    base, beside, teacher, taught = trained
    assert [pipes for pipes, *_ in trained] == [
        base[0], [*base[0], "masked_lm"], base[0], base[0]
    ]  # fmt: skip
    assert base[1] == taught[1] == "encoder" and beside[1] == teacher[1] != "encoder"
    assert taught[2]["teacher"]["pipelines"] and not teacher[2]
    assert [run["arm"] for run in result["runs"]] == [
        "base", ARMS["beside"].title, f"teacher: {ARMS['taught'].title}", ARMS["taught"].title
    ]  # fmt: skip
    assert {row["arm"] for row in result["differences"]} == {ARMS["beside"].title, ARMS["taught"].title}


def test_no_more_seeds_are_trained_of_a_clear_arm(project, monkeypatch):
    """The other arm goes on, beside the base; rows say how many seeds they are of."""
    arms = {name: AdaptedEncoder(str(project / "encoder"), {}) for name in ("base", "clear", "unclear")}
    gains = {"base": 0.0, "clear": 0.3, "unclear": 0.0}

    def train(self, run, variant_of):
        mean = 0.5 + 0.001 * run.seed + gains[run.arm] + (0.01 * (run.seed % 2) if run.arm == "unclear" else 0.0)
        return {"scores": {"ents_f": mean, MEAN: mean}, "statistics": {}}

    monkeypatch.setattr(Runs, "_train", train)
    runs = Runs(project / "config.cfg", [project / "dev.spacy"], project / "out")
    said = []
    result = compare_adaptation(runs, arms, CompareSettings(4, (1.0,), stop_early=True), said.append)
    counts = Counter(run["arm"] for run in result["runs"])
    assert counts == {"base": 4, "clear": 2, "unclear": 4}
    assert {row["arm"]: row["seeds"] for row in result["differences"]} == {"clear": 2, "unclear": 4}
    assert sum("not needed" in line for line in said) == 2
    assert "helped after 2 seeds" in difference_table(result)


def test_a_stopped_comparison_resumes(project, capsys, monkeypatch):
    trained = []
    real = Runs._train

    def count(self, run, variant_of):
        if len(trained) == 5:
            raise KeyboardInterrupt
        trained.append(run)
        return real(self, run, variant_of)

    monkeypatch.setattr(Runs, "_train", count)
    assert compare(project, "--no-plot", "--label-fractions", "1") == 130  # the exit code after Ctrl-C
    assert len(list((project / "out" / "runs").glob("*.json"))) == 5
    before = {file: file.stat().st_mtime_ns for file in (project / "out" / "encoders").rglob("model.safetensors")}
    monkeypatch.setattr(Runs, "_train", lambda self, run, variant_of: trained.append(run) or real(self, run, variant_of))
    compare(project, "--no-plot", "--label-fractions", "1")
    assert len(trained) == 8  # none of the first five again
    assert {file: file.stat().st_mtime_ns for file in (project / "out" / "encoders").rglob("model.safetensors")} == before
    (project / "config.cfg").write_text((project / "config.cfg").read_text().replace("max_steps = 4", "max_steps = 2"))
    compare(project, "--no-plot", "--label-fractions", "1")
    assert len(trained) == 16  # another config: all of them
    compare(project, "--no-plot", "--label-fractions", "1", "--set", "training.max_steps=3")
    assert len(trained) == 24


def test_a_fraction_of_the_labels_is_the_same_for_every_arm(project):
    runs = Runs(project / "config.cfg", [project / "dev.spacy"], project / "out")
    texts = {}
    for arm, seed in (("one", 0), ("other", 0), ("one", 1)):
        (file,) = runs._subsets(TrainingRun(arm, seed, 0.5, {})).values()
        texts[arm, seed] = [doc.text for doc in read_docs(file, English().vocab)]
    whole = len(list(read_docs(project / "train.spacy", English().vocab)))
    assert len(texts["one", 0]) == round(whole / 2) and len(set(texts["one", 0])) == round(whole / 2)
    assert texts["one", 0] == texts["other", 0] != texts["one", 1]


def test_a_seed_gives_the_same_scores_again(project):
    runs = Runs(project / "config.cfg", [project / "dev.spacy"], project / "out")
    assert runs._train(TrainingRun("base", 1, 1.0, {}), None) == runs._train(TrainingRun("base", 1, 1.0, {}), None)


def row(arm, score, low, mean, high, verdict):
    return {"arm": arm, "label_fraction": 1.0, "score": score, "base": 50.0, "adapted": 50.0 + mean, "difference": mean,
            "low": low, "high": high, "verdict": verdict}  # fmt: skip


def test_the_summary_says_no_more_than_the_interval():
    step = {
        "tokens": 1000,
        "epochs": 1.5,
        "seconds": 90,
        "perplexity_before": {"in-domain": 9.0},
        "perplexity_after": {"in-domain": 4.0},
    }
    result = {
        "seeds": 3, "arms": {"base": {}, "domain text": {"steps": [step]}},
        "differences": [
            row("domain text", "ents_f", 0.5, 2.0, 3.5, "helped"),
            row("domain text", "mean", -1.0, 1.0, 3.0, "no difference seen"),
        ],
    }  # fmt: skip
    assert difference_summary(result) == (
        "With 100% of the labels, domain text: no difference seen (+1.0 points [ -1.0,  +3.0]); entities: F1: helped."
    )
    table = difference_table(result)
    assert "1,000 tokens (1.5 epochs), 1.5 min; perplexity, in-domain: 9.0 before, 4.0 after" in table
    assert "+2.0  [ +0.5,  +3.5]  helped" in table


@pytest.mark.parametrize(
    "more, words",
    [
        (["--label-fractions", "half"], ["--label-fractions", "'half'"]),
        (["--label-fractions", "0.5,2"], ["label-fractions = 2.0", "1.0"]),
        (["--seeds", "0"], ["seeds = 0"]),
        (["--text", "nowhere.txt"], ["nowhere.txt: no such file"]),
        (["--encoder", "./nowhere"], ["./nowhere", "no such folder"]),
        (["--set", "trainig.max_steps=2"], ["config.cfg", "trainig"]),
        (["--set", "max_steps 2"], ["--set 'max_steps 2'", "training.max_steps=200"]),
    ],
)
def test_user_errors_are_named(project, more, words):
    with pytest.raises(UserError) as error:
        compare(project, "--no-plot", *more)
    assert all(word in str(error.value) for word in words)


def test_a_config_that_cannot_be_compared_is_an_error(project):
    config = project / "config.cfg"
    config.write_text(config.read_text().split("[initialize")[0])
    with pytest.raises(UserError, match=r"config.cfg: no component in \[initialize.components\] has an encoder_loader"):
        compare(project, "--no-plot")
    config.write_text("[nlp\nlang = 1")
    with pytest.raises(UserError, match=r"config.cfg: .*section"):
        compare(project, "--no-plot")
    with pytest.raises(UserError, match=r"nowhere.cfg: no such file"):
        Runs(Path("nowhere.cfg"), [], project / "out")


def compare_sharing_of(project, *more):
    from mtl.cli.app import app

    arguments = ["compare", str(project / "config.cfg"), str(project / "dev.spacy"), "--sharing", "--out", str(project / "out")]
    return app([*arguments, "--seeds", "2", "--set", "training.max_steps=6", *more], standalone_mode=False)


@pytest.fixture
def two_corpora(project):
    """The project with a corpus a task, of which the documents carry that task's annotation alone; the tasks differ in size."""
    nlp = English()
    docs = list(read_docs(project / "train.spacy", nlp.vocab))
    places = [[(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents] for doc in docs]
    write_docs([gold_doc(nlp, doc.text, cats=doc.cats) for doc in docs[:12]], project / "categories.spacy")
    entities = [gold_doc(nlp, doc.text, ents=ents) for doc, ents in zip(docs[12:], places[12:])]
    write_docs(entities, project / "entities.spacy")
    paths = f'categories = "{project / "categories.spacy"}"\nentities = "{project / "entities.spacy"}"'
    config = (project / "config.cfg").read_text().replace(f'all = "{project / "train.spacy"}"', paths)
    weighting = '[components.transformer.weighting]\n@misc = "mtl.StaticWeighting.v1"\nweights = {"textcat": 1.5, "ner": 0.5}\n'
    config = config.replace("[components.textcat]", weighting + "[components.textcat]")
    batcher = '[training.batcher]\n@batchers = "spacy.batch_by_words.v1"\nsize = 30\ntolerance = 0.2\ndiscard_oversize = false\n'
    (project / "config.cfg").write_text(config.replace("[training.optimizer]", batcher + "[training.optimizer]"))
    return project


def test_a_head_alone_sees_what_it_sees_together(two_corpora, monkeypatch):
    """The documents that each training reads are looked at: a head alone has those of its task, as often."""
    from mtl.compare.sharing import compare_sharing
    from mtl.tasks.component import Head

    seen = {}
    update = Head.update

    def look(self, examples, **given):
        run = seen.setdefault((tuple(sorted(name for name, _ in nlps[-1].pipeline)), self.name), [])
        run.append([eg.text for eg in examples if self.is_annotated(eg.reference)])
        return update(self, examples, **given)

    nlps, init = [], compat.init_nlp
    monkeypatch.setattr(compat, "init_nlp", lambda config, **given: nlps.append(init(config, **given)) or nlps[-1])
    monkeypatch.setattr(Head, "update", look)
    runs = Runs(two_corpora / "config.cfg", [two_corpora / "dev.spacy"], two_corpora / "out", {"training.max_steps": 6})
    result = compare_sharing(runs, CompareSettings(1, (1.0,)), lambda _: None)
    joint = tuple(sorted(("transformer", "textcat", "ner")))
    for head in ("textcat", "ner"):
        alone = seen[tuple(sorted(("transformer", head))), head]
        together = [text for batch in seen[joint, head] for text in batch]
        flat = [text for batch in alone for text in batch]
        assert len(alone) == result["steps"][head] + 1 < 7  # spaCy's loop does one more than max_steps
        assert sorted(flat) == sorted(together)  # the batcher may swap neighbours
        assert all(batch for batch in alone)


def test_settings_of_other_heads_are_removed_for_a_head_alone():
    """A pattern in `lr_multipliers` that matches no parameter is an error, and so is a weight of an unknown head."""
    config = Config(
        {
            "nlp": {"pipeline": ["transformer", "ner", "qa", "masked_lm"]},
            "components": {
                "transformer": {"weighting": {"weights": {"ner": 1.0, "qa": 2.0}, "anneal": {"qa": 10}}},
                "ner": {"factory": "mtl_ner"},
                "qa": {"factory": "mtl_qa"},
                "masked_lm": {"factory": "mtl_masked_lm"},
            },
            "training": {
                "train_corpus": "corpora.train",
                "optimizer": {"lr_multipliers": {"^qa.output": 0.5, "qa": 0.1, "ner": 2.0, "transformer": 0.5}},
            },
            "corpora": {"train": {"@readers": "mtl.Documents.v1", "paths": []}},
            "initialize": {"components": {"masked_lm": {"name": "x"}}},
        }
    )
    alone = only_head(config, "ner", ["ner", "qa"])
    assert alone["nlp"]["pipeline"] == ["transformer", "ner"] and set(alone["components"]) == {"transformer", "ner"}
    assert alone["components"]["transformer"]["weighting"] == {"weights": {"ner": 1.0}, "anneal": {}}
    assert alone["training"]["optimizer"]["lr_multipliers"] == {"ner": 2.0, "transformer": 0.5}
    assert alone["initialize"]["components"] == {} and alone["corpora"]["train"]["@readers"] == "mtl.AnnotatedExamples.v1"
    assert len(config["components"]) == 4  # the joint config is unchanged


def test_compare_sharing(two_corpora, capsys):
    pytest.importorskip("matplotlib", reason="the plot needs it: pip install spacy-mtl[compare]")
    compare_sharing_of(two_corpora)
    printed = capsys.readouterr().out
    result = json.loads((two_corpora / "out" / "comparison.json").read_text())
    assert result["heads"] == ["textcat", "ner"] and [run["arm"] for run in result["runs"]] == ["together", "textcat", "ner"] * 2
    rows = {row["score"]: row for row in result["differences"]}
    assert set(rows) == {"cats_accuracy", "ents_f", MEAN}
    scores = {(run["arm"], run["seed"]): run["scores"] for run in result["runs"]}
    apart = [100 * (scores["together", seed]["ents_f"] - scores["ner", seed]["ents_f"]) for seed in (0, 1)]
    assert rows["ents_f"]["difference"] == pytest.approx(sum(apart) / 2)
    alone = [(scores["textcat", seed]["cats_accuracy"] + scores["ner", seed]["ents_f"]) / 2 for seed in (0, 1)]
    assert rows[MEAN]["alone"] == pytest.approx(50 * sum(alone))
    assert set(result["baselines"]) == {"cats_accuracy", "ents_f"} and sum(result["sampling"].values()) == pytest.approx(1.0)
    assert {"norm/ner", "weight/textcat"} <= set(result["statistics"])
    assert "no encoder" in printed and "training together against alone" in printed and "sampling: textcat " in printed
    assert (two_corpora / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert str(two_corpora) not in (two_corpora / "out" / "comparison.json").read_text()


def test_the_baselines_need_no_language():
    """The documents are read into a vocabulary that knows no lexical attributes."""
    pytest.importorskip("sklearn", reason="needs it: pip install spacy-mtl[compare]")
    nlp = English()
    train = [gold_doc(nlp, f"The {part} failed.", ents=[(4, 4 + len(part), "PART")]) for part in ("Pump", "air valve")]
    test = [gold_doc(nlp, "A pump and an air valve.", ents=[(2, 6, "PART"), (14, 23, "PART")])]
    bare = Vocab()
    train_docs, test_docs = (list(DocBin(docs=docs).get_docs(bare)) for docs in (train, test))
    assert dictionary_f1(train_docs, test_docs) == 1.0


def test_sharing_needs_two_heads(project):
    config = project / "config.cfg"
    config.write_text(config.read_text().replace('["transformer", "textcat", "ner"]', '["transformer", "ner"]'))
    with pytest.raises(UserError, match=r"config.cfg: its pipeline has the scored heads \['ner'\]; .*2 or more"):
        compare_sharing_of(project, "--no-plot")
    with pytest.raises(UserError, match="--adaptation, --sharing or --augmentation"):
        compare_sharing_of(project, "--adaptation")


def test_negative_transfer_is_flagged():
    from mtl.compare.report import sharing_summary, sharing_table

    def make_row(score, low, mean, high, verdict):
        return {"arm": "together", "label_fraction": 1.0, "score": score, "alone": 50.0, "together": 50.0 + mean,
                "difference": mean, "low": low, "high": high, "verdict": verdict}  # fmt: skip

    result = {
        "seeds": 3, "baselines": {"ents_f": 0.4}, "sampling": {"ner": 0.8, "qa": 0.2},
        "differences": [make_row("ents_f", -3.0, -2.0, -1.0, "hurt"), make_row(MEAN, -1.0, 0.5, 2.0, "no difference seen")],
    }  # fmt: skip
    table = sharing_table(result, {"cosine/ner/qa": -0.12, "norm/ner": 0.5})
    assert "-2.0  [ -3.0,  -1.0]  negative transfer" in table and "40.0" in table
    assert "sampling: ner 80%, qa 20%" in table and "ner/qa -0.120" in table
    assert sharing_summary(result) == (
        "With 100% of the labels, training together against alone: no difference seen on the mean over the heads "
        "(+0.5 points [ -1.0,  +2.0]); entities: F1: negative transfer (-2.0 points [ -3.0,  -1.0])."
    )


def test_the_bag_of_words_predicts_categories_that_depend_on_a_word():
    pytest.importorskip("sklearn", reason="needs it: pip install spacy-mtl[compare]")
    nlp, task = English(), TextcatTask()
    docs = [gold_doc(nlp, f"the {word} is here", {"A": float(word == "pump"), "B": float(word != "pump")}) for word in
            ("pump", "valve") * 10]  # fmt: skip
    assert task.simple_model(docs, docs[:4]) == {"cats_accuracy": 1.0}
    assert task.simple_model(docs, [gold_doc(nlp, "the fan is here", {"A": 1.0, "B": 1.0})]) == {}


def test_a_training_without_end_is_refused(project):
    with pytest.raises(UserError, match=r"training.max_steps = 0: .*--set training.max_steps=1000"):
        compare_sharing_of(project, "--no-plot", "--set", "training.max_steps=0")


def test_heads_together_may_be_taught_by_those_alone(two_corpora, capsys, monkeypatch):
    from mtl.tasks.teacher import Teacher

    shares, next_share = [], Teacher.next_share

    def look(self):
        shares.append(next_share(self))
        return shares[-1]

    monkeypatch.setattr(Teacher, "next_share", look)
    compare_sharing_of(two_corpora, "--no-plot", "--distill", "--seeds", "1")
    result = json.loads((two_corpora / "out" / "comparison.json").read_text())
    arms = ["together", "textcat", "ner", "together, taught by the heads alone"]
    assert [run["arm"] for run in result["runs"]] == arms and shares[0] > 0.8 and 0 <= shares[-1] < 0.6
    assert {row["arm"] for row in result["differences"]} == {arms[0], arms[3]}
    assert "training together, taught by the heads alone against alone" in capsys.readouterr().out
    assert len(list((two_corpora / "out" / "pipelines").iterdir())) == 2
    assert str(two_corpora) not in (two_corpora / "out" / "comparison.json").read_text()


def test_compare_augmentation(project, capsys):
    """With the augmenter and without; of a share of the labels the augmenter has that share, too."""
    from mtl.cli.app import app

    arguments = [
        "compare",
        str(project / "config.cfg"),
        str(project / "dev.spacy"),
        "--augmentation",
        "--out",
        str(project / "out"),
    ]
    arguments += ["--seeds", "2", "--label-fractions", "0.5,1", "--no-plot", "--set", "training.max_steps=6"]
    with pytest.raises(UserError, match=r"\[corpora.train.augmenter\] is not set: nothing to compare"):
        app(arguments, standalone_mode=False)
    augmenter = '[corpora.train.augmenter]\n@augmenters = "mtl.Augmenters.v1"\n[corpora.train.augmenter.*.mentions]\n'
    augmenter += f'@augmenters = "mtl.MentionAugmenter.v1"\nlevel = 1.0\nsource = "{project / "train.spacy"}"\n'
    config = project / "config.cfg"
    config.write_text(config.read_text().replace("[training]", augmenter + "[training]", 1))
    app(arguments, standalone_mode=False)
    printed = capsys.readouterr().out
    result = json.loads((project / "out" / "comparison.json").read_text())
    assert [run["arm"] for run in result["runs"]] == ["plain", "augmented"] * 4
    assert result["augmenters"] == ["mtl.Augmenters.v1", "mtl.MentionAugmenter.v1"]
    assert {row["score"] for row in result["differences"]} == {"cats_accuracy", "ents_f", MEAN}
    assert "plain  augmented  difference" in printed and "With 50% of the labels, augmented: " in printed
    assert str(project) not in (project / "out" / "comparison.json").read_text()

    runs = Runs(config, [project / "dev.spacy"], project / "out")
    changes = runs._subsets(TrainingRun("x", 0, 0.5, {}))
    assert changes["corpora.train.augmenter.*.mentions.source"] == changes["corpora.train.paths.all"]
    assert len(list(read_docs(changes["corpora.train.paths.all"], English().vocab))) == 8
