"""A student with an encoder of its own, taught by finished pipelines on labelled documents and on plain text."""

import math
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Dict, Iterable, Iterator, Optional, Sequence, Type

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import load_model
from thinc.api import Config

from mtl.adaptation.cleaning import CleanReport, CleanSettings, clean
from mtl.data.docs import read_docs, write_docs
from mtl.encoder.component import Transformer
from mtl.encoder.pretrained.sources import load_config
from mtl.encoder.runtime.device import free_memory
from mtl.errors import UserError, check_range
from mtl.files import check_target, replacing, workplace, write_json
from mtl.progress import Bar, Echo
from mtl.registry import Task, heads_of, task_types
from mtl.timing import machine
from mtl.training.confidence import require_precision
from mtl.training.initialize import init_pipeline
from mtl.training.measure import measure_pipelines
from mtl.training.recipes import copied_from, dev_corpus, prepare_work, steps_for, train_corpus, training_section, words_in
from mtl.training.run import train_config
from mtl.training.saving import without_local_paths

MAX_TOKENS = 2000  # of an unlabelled document; the rest is cut off
TRIED = 50  # documents that the teachers are asked about before a run that leaves out what they are not confident of
STUDENT = "student"


@dataclass(frozen=True)
class StudentSettings:
    """How to teach a student.

    Args:
        epochs (float): Epochs over all documents and texts.
        learning_rate (float): Peak learning rate of the encoder; a head's is ten times as high.
        temperature (float): What logits of teachers and student are divided by.
        gold_share (float): The share of the gold annotation in the loss on labelled documents at the end; at the start it is 0.
        min_confidence (float): Leave out texts of which the teachers are less sure; see `TeacherSettings`.
        rounds (int): How often to teach: from the second time on, the student of the round before is the teacher. Where teacher
            and student have the same encoder, this is self-training; dropout makes the student the noisier of the two (Xie et al.
            2020, https://arxiv.org/abs/1911.04252).
        seed (int): Random seed.
        auxiliary (Sequence[str]): Tasks that the encoder learns from the teachers as well, and that are left out of the student
            in the end: those whose `is_taught` says so.
        min_precision (float): In place of `min_confidence`, for each head what `require_precision` finds; 0 to leave it.
    """

    epochs: float = 3.0
    learning_rate: float = 3e-4
    temperature: float = 1.0
    gold_share: float = 1.0
    min_confidence: float = 0.0
    rounds: int = 1
    seed: int = 0
    auxiliary: Sequence[str] = ()
    min_precision: float = 0.0

    def check(self) -> None:
        """Check the numbers.

        Raises:
            UserError: One is out of range.
        """
        check_range("epochs", self.epochs, 0.01)
        check_range("learning-rate", self.learning_rate, 0.0, 1.0)
        check_range("temperature", self.temperature, 0.01)
        check_range("gold-share", self.gold_share, 0.0, 1.0)
        check_range("min-confidence", self.min_confidence, 0.0, 1.0)
        check_range("rounds", self.rounds, 1)
        check_range("min-precision", self.min_precision, 0.0, 1.0)
        if self.min_precision and self.min_confidence:
            raise UserError("min-precision finds a min-confidence for each head: give one of the two")
        known = taught_tasks()
        for name in self.auxiliary:
            if name not in known:
                raise UserError(f"--auxiliary {name}: teachers teach no such task; there are {', '.join(sorted(known))}")


def taught_tasks() -> Dict[str, Type[Task]]:
    """The auxiliary tasks that teachers can teach, by name."""
    return {task.name: task for task in task_types() if task.is_auxiliary and task.is_taught}


def teach_student(
    teachers: Sequence[str], encoder: str, texts: Iterable[str], labelled: Sequence[Path], dev: Sequence[Path], out: Path,
    settings: StudentSettings, echo: Echo, *, resume: bool = True, stdout: Optional[IO] = None,
) -> Dict[str, Any]:  # fmt: skip
    """Train a pipeline with every head of the teachers on another encoder, and write it to `out/student`.

    A head of several teachers learns the mean of their probabilities. Labels, tokenizer and settings of the heads are those of
    the teachers. What has text of `dev` is left out of the texts.

    Args:
        teachers (Sequence[str]): Folders or packages.
        encoder (str): A Hugging Face folder or a name on the hub, for the student to start from.
        texts (Iterable[str]): Plain texts.
        labelled (Sequence[Path]): Converted files or folders.
        dev (Sequence[Path]): Converted files or folders to score on, and to choose the best weights by.
        out (Path): Where to write. Checkpoints are in a folder beside it, or in it (see `workplace`), until it is written.
        settings (StudentSettings): How to teach.
        echo (Echo): Gets messages.
        resume (bool): Resume an unfinished run with the same settings.
        stdout (Optional[IO]): Where the training log goes; by default standard output.

    Returns:
        Dict[str, Any]: The report, which is also written to `out/distill.json`: "encoder", "steps", "texts", "machine", and
        "students" {name: {"scores", "words_per_second", "over_teacher"}}, beginning with the teachers.

    Raises:
        UserError: The teachers do not fit together or in memory, there is no text, or they are confident of none of it.
    """
    settings.check()
    check_target(out, "distill.json")
    load_config(encoder)  # a wrong name is found before the teachers are loaded
    _check_memory(teachers)
    pipelines = {teacher: load_model(teacher) for teacher in teachers}
    heads = _heads(pipelines)
    work = workplace(out) / f"{out.name}.training"
    first = pipelines[teachers[0]]
    if not resume:
        shutil.rmtree(work, ignore_errors=True)
    unlabelled = work / "texts.spacy"
    tasks = [head.task for nlp in pipelines.values() for head in heads_of(nlp).values()]
    count = _write_texts(texts, first, tasks, labelled, dev, unlabelled, settings.seed, echo)
    learned_from = [*labelled, *([unlabelled] if count else [])]
    if not learned_from:
        raise UserError("there is no text to learn from: give some with --text, or labelled documents with --labelled")
    config = _config(first, teachers[0], encoder, heads, learned_from, dev, settings)
    folders = [pipeline.path for pipeline in pipelines.values() if pipeline.path]
    prepare_work(work, config, [*learned_from, *dev, *folders], resume=True)
    if settings.min_confidence and count:
        _check_confidence(config, unlabelled, settings.min_confidence)
    students = _rounds(config, work, settings, dev if count else [], echo, stdout)
    measured = measure_pipelines({**_by_name(pipelines), **students}, dev, echo)
    report = {
        "encoder": Path(encoder).name, "steps": config["training"]["max_steps"], "texts": count, "students": measured,
        "best": max(students, key=lambda name: sum(measured[name]["scores"].values())), "machine": machine(),
    }  # fmt: skip
    _save(work, out, report, settings.auxiliary)
    return report


def _rounds(
    config: Config, work: Path, settings: StudentSettings, dev: Sequence[Path], echo: Echo, stdout: Optional[IO]
) -> Dict[str, Language]:  # fmt: skip
    """Train the students of all rounds, each taught by the one before. What is finished is not repeated."""
    names = [STUDENT] if settings.rounds == 1 else [f"round {number}" for number in range(1, settings.rounds + 1)]
    students = {}
    for name in names:
        echo(f"\n{name}:")
        if not (work / name / "finished").exists():
            if settings.min_precision and dev:  # there are none if no text depends on it
                require_precision(config, dev, settings.min_precision, echo)
            if train_config(config, work / name, stdout=stdout)[1]:
                raise KeyboardInterrupt
            (work / name / "finished").touch()
        for section in config["initialize"]["components"].values():
            if "teacher" in section:
                section["teacher"] = {**section["teacher"], "pipelines": [str(work / name / "model-best")]}
        students[name] = load_model(work / name / "model-best")
    return students


def _save(work: Path, out: Path, report: Dict[str, Any], auxiliary: Sequence[str]) -> None:
    """Write the best student, without what only its training needed, from the folder of its run to the output."""
    with replacing(out, "distill.json") as partial:
        partial.mkdir()
        nlp = load_model(work / report["best"] / "model-best")
        for name in auxiliary:
            nlp.remove_pipe(name)
            nlp.config["initialize"]["components"].pop(name, None)
        nlp.to_disk(partial / STUDENT)
        without_local_paths(partial / STUDENT / "config.cfg")
        write_json(partial / "distill.json", report)
    shutil.rmtree(work)


def _by_name(pipelines: Dict[str, Language]) -> Dict[str, Language]:
    """The teachers by the names of their folders, which a report may show."""
    names = [Path(path).name for path in pipelines]
    if len(set(names)) < len(names) or STUDENT in names:
        names = [f"teacher {i + 1}" for i in range(len(names))]
    return dict(zip(names, pipelines.values()))


def _check_memory(teachers: Sequence[str]) -> None:
    """Raise a `UserError` if the weights of the teachers do not fit in memory."""
    folders = [Path(teacher) for teacher in teachers if Path(teacher).is_dir()]
    needed = sum(file.stat().st_size for folder in folders for file in folder.rglob("*.safetensors"))
    free = free_memory()
    if free is not None and needed > free:
        raise UserError(
            f"the weights of the teachers are {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free: teach by fewer "
            f"at a time, or where there is more memory"
        )


def _heads(pipelines: Dict[str, Language]) -> Dict[str, Dict[str, Any]]:
    """The heads of all teachers: name -> "settings", their section of the config, and "pipelines", who has it.

    Raises:
        UserError: A teacher has none, or heads of one name are of different kinds.
    """
    heads: Dict[str, Dict[str, Any]] = {}
    for path, nlp in pipelines.items():
        if not heads_of(nlp):
            raise UserError(f"the teacher {path!r} has no head of ours; its components are {', '.join(nlp.pipe_names)}")
        for name in heads_of(nlp):
            settings = dict(nlp.config.interpolate()["components"][name])
            known = heads.setdefault(name, {"settings": settings, "pipelines": []})
            if known["settings"]["factory"] != settings["factory"]:
                raise UserError(
                    f"the teacher {path!r}: its head {name!r} is made by {settings['factory']}, that of "
                    f"{known['pipelines'][0]!r} by {known['settings']['factory']}; rename one"
                )
            known["pipelines"].append(path)
    return heads


def _write_texts(
    texts: Iterable[str], nlp: Language, tasks: Sequence[Task], labelled: Sequence[Path], dev: Sequence[Path], out: Path,
    seed: int, echo: Echo,
) -> int:  # fmt: skip
    """Write the plain texts as documents that ask what the labelled ones are asked. Returns how many there are."""
    patterns = [doc for path in labelled for doc in read_docs(path, nlp.vocab)]
    rng, report = random.Random(seed), CleanReport()

    def documents() -> Iterator[Doc]:
        cleaned = clean(texts, CleanSettings(decontaminate=[str(path) for path in dev]), report)
        for text in Bar(cleaned, unit=" documents", desc="texts", mininterval=1.0):
            doc = nlp.make_doc(text)
            doc = doc if len(doc) <= MAX_TOKENS else doc[:MAX_TOKENS].as_doc()
            for task in tasks:
                task.ask(doc, patterns, rng)
            yield doc

    out.parent.mkdir(parents=True, exist_ok=True)
    count = write_docs(documents(), out)
    for line in report.lines():
        echo(line)
    return count


def _config(
    first: Language, teacher: str, encoder: str, heads: Dict[str, Dict[str, Any]], learned_from: Sequence[Path],
    dev: Sequence[Path], settings: StudentSettings,
) -> Config:  # fmt: skip
    """The training config of the student."""
    steps = steps_for(settings.epochs, words_in(learned_from))
    files = {f"{path.stem}{i}": str(path) for i, path in enumerate(learned_from)}
    config = first.config.interpolate().copy()
    transformers = [name for name, pipe in first.pipeline if isinstance(pipe, Transformer)]
    if len(transformers) != 1:
        raise UserError(f"{teacher}: a student is made of a pipeline with one mtl_transformer, and it has {len(transformers)}")
    (transformer,) = transformers
    model = config["components"][transformer]["model"]
    model |= {"precision": "fp32", "backend": "auto"} if model.get("precision") == "int8" else {}
    weights: Dict[str, Optional[float]] = {}
    for head in heads.values():
        weights |= Language.get_factory_meta(head["settings"]["factory"]).default_score_weights or {}
    config["nlp"] |= {"pipeline": [transformer, *heads], "disabled": []}
    config["components"] = {transformer: config["components"][transformer]} | {
        name: head["settings"] for name, head in heads.items()
    }
    config["corpora"] = {"train": train_corpus(files, settings.seed), "dev": dev_corpus(dev)}
    config["training"] |= training_section(steps, settings.learning_rate, settings.seed, weights)
    config["initialize"] |= copied_from(teacher)
    loader = {"@misc": "mtl.HuggingFaceLoader.v1", "name": encoder}
    config["initialize"]["components"] = {transformer: {"encoder_loader": loader}}
    for name, head in heads.items():
        config["initialize"]["components"][name] = {
            "teacher": {
                "@misc": "mtl.Teacher.v1", "pipelines": head["pipelines"], "steps": steps, "start_share": 1.0,
                "end_share": 1.0 - settings.gold_share, "temperature": settings.temperature,
                "min_confidence": settings.min_confidence,
            }
        }  # fmt: skip
    for name in settings.auxiliary:
        _add_auxiliary(config, name, [path for head in heads.values() for path in head["pipelines"]])
    return config


def _add_auxiliary(config: Config, name: str, teachers: Sequence[str]) -> None:
    config["nlp"]["pipeline"] = [*config["nlp"]["pipeline"], name]
    config["components"][name] = {"factory": taught_tasks()[name].factory}
    pipelines = list(dict.fromkeys(teachers))
    config["initialize"]["components"][name] = {"teacher": {"@misc": "mtl.Teacher.v1", "pipelines": pipelines}}


def _check_confidence(config: Config, texts: Path, least: float) -> None:
    """Ask the teachers about some of the texts.

    Raises:
        UserError: They are confident of none.
    """
    nlp = init_pipeline(config)
    docs = [doc for _, doc in zip(range(TRIED), read_docs(texts, nlp.vocab))]
    best = 0.0
    for head in heads_of(nlp).values():
        for doc in docs:
            targets = head.teacher.targets(Example(nlp.make_doc(doc.text), doc))
            best = max(best, min((member.confidence for member in targets), default=0.0))
    if best < least:
        raise UserError(
            f"min-confidence = {least:g}: of the first {len(docs)} texts there is none of which the teachers are that sure "
            f"throughout; the highest confidence is {math.floor(1e4 * best) / 1e4:g}"
        )
