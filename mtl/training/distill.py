"""Distill a trained pipeline into smaller students: fewer or narrower layers, taught by the pipeline itself."""

import math
import random
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Sequence

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.training.batchers import minibatch_by_words
from spacy.util import load_model
from thinc.api import fix_random_seed

from mtl.data.docs import read_docs
from mtl.encoder.component import Transformer
from mtl.encoder.model.encoder import Encoder
from mtl.errors import UserError, check_range
from mtl.files import check_target, replacing, write_json
from mtl.optimization import warmup_linear
from mtl.progress import Bar, Echo
from mtl.registry import heads_of
from mtl.sampling.corpus import count_encoded_words, make_example, words_to_encode
from mtl.tasks.teacher import Teacher, TeacherSettings
from mtl.timing import machine
from mtl.training.measure import measure_pipelines
from mtl.training.optimizer import adamw
from mtl.training.resume import take_due_steps
from mtl.training.saving import without_local_paths
from mtl.training.students import keep_layers, narrow_layers

WORDS_PER_STEP = 1000  # as the encoder reads them
MAX_TOKENS = 2000  # of a training text; the rest is cut off


@dataclass(frozen=True)
class DistillSettings:
    """How to make students.

    Args:
        layers (Sequence[int]): Numbers of encoder layers, one for each student.
        width (float): Fraction of the feed-forward neurons that a student keeps.
        epochs (float): Epochs over all texts.
        learning_rate (float): Peak learning rate of the encoder; that of the heads is three times as high.
        seed (int): Random seed.
    """

    layers: Sequence[int] = (4, 3, 2)
    width: float = 1.0
    epochs: float = 3.0
    learning_rate: float = 3e-4
    seed: int = 0

    def check(self) -> None:
        """Check the numbers, except for `layers`.

        Raises:
            UserError: One is out of range.
        """
        check_range("epochs", self.epochs, 0.01)
        check_range("learning-rate", self.learning_rate, 0.0, 1.0)
        check_range("width", self.width, 0.01, 1.0)

    def student_name(self, count: int) -> str:
        """The name of the student with this many layers."""
        return f"{count}" + (f"-width-{self.width:g}" if self.width < 1 else "")


def distill(
    pipeline: str, texts: Iterable[str], labelled: Sequence[Path], dev: Sequence[Path], out: Path, settings: DistillSettings,
    echo: Echo,
) -> Dict[str, Any]:  # fmt: skip
    """Train a student for each number of layers, and write it to `out/layers-N` or `out/layers-N-width-W`.

    A student starts with every head of the teacher and some of the encoder's layers (see `keep_layers` and `narrow_layers`). It
    learns the teacher's probabilities on the texts and on the labelled documents, and of the answers to their questions.

    Args:
        pipeline (str): Folder or package of the teacher.
        texts (Iterable[str]): Unlabelled texts.
        labelled (Sequence[Path]): Converted files or folders, for their texts and questions.
        dev (Sequence[Path]): Converted files or folders to score on.
        out (Path): Where to write.
        settings (DistillSettings): How to make the students.
        echo (Echo): Gets messages.

    Returns:
        Dict[str, Any]: The report, which is also written to `out/distill.json`: "teacher_layers", "width", "machine", and
        "students" {name: {"scores", "words_per_second", "over_teacher"}}, beginning with the teacher itself.

    Raises:
        UserError: A number of layers is out of range; there is no text; the feed-forward layers cannot be narrowed.
    """
    settings.check()
    check_target(out, "distill.json")
    teacher = load_model(pipeline)
    teacher_layers = encoder_of(teacher).layers
    max_layers = teacher_layers if settings.width < 1 else teacher_layers - 1
    least_layers = encoder_of(teacher).settings.top_layers  # which the heads read
    for count in settings.layers:
        if not least_layers <= count <= max_layers:
            raise UserError(
                f"layers = {count}: the teacher's encoder has {teacher_layers}; allowed: {least_layers} to {max_layers}"
            )
    references = list(taught_documents(teacher, texts, labelled))
    if not references:
        raise UserError("there is no text to learn from: give some with --text, or labelled documents with --labelled")
    pipelines = {str(teacher_layers): teacher}
    for count in settings.layers:
        student = load_model(pipeline)
        keep_layers(encoder_of(student), count)
        if settings.width < 1:
            narrow_layers(encoder_of(student), settings.width, [reference.text for reference in references])
        teach_by(student, pipeline)
        train_student(student, references, settings, f"layers {settings.student_name(count)}")
        pipelines[settings.student_name(count)] = student
    report = {
        "teacher_layers": teacher_layers, "width": settings.width, "students": measure_pipelines(pipelines, dev, echo),
        "machine": machine(),
    }  # fmt: skip
    with replacing(out, "distill.json") as partial_out:
        partial_out.mkdir()
        for name in list(pipelines)[1:]:
            pipelines[name].to_disk(partial_out / f"layers-{name}")
            without_local_paths(partial_out / f"layers-{name}" / "config.cfg")
        write_json(partial_out / "distill.json", report)
    return report


def encoder_of(nlp: Language) -> Encoder:
    """The encoder of the pipeline.

    Raises:
        UserError: It has none of ours.
    """
    for _, pipe in nlp.pipeline:
        if isinstance(pipe, Transformer):
            return pipe.encoder
    raise UserError(f"the pipeline has no mtl_transformer; its components are {', '.join(nlp.pipe_names)}")


def taught_documents(teacher: Language, texts: Iterable[str], labelled: Sequence[Path]) -> Iterator[Doc]:
    """What the students are taught on: the texts, which are asked what the labelled documents are asked, then these."""
    patterns = [doc for path in labelled for doc in read_docs(path, teacher.vocab)]
    rng = random.Random(0)
    for text in texts:
        doc = teacher.make_doc(text)[:MAX_TOKENS].as_doc()
        if len(doc):
            for head in heads_of(teacher).values():
                head.task.ask(doc, patterns, rng)
            yield doc
    yield from patterns


def teach_by(student: Language, pipeline: str) -> None:
    """Let every head learn the probabilities of its teacher, and nothing else."""
    for head in heads_of(student).values():
        head.teacher = Teacher(TeacherSettings([pipeline], end_share=1.0), head)


def train_student(student: Language, references: List[Doc], settings: DistillSettings, name: str) -> None:
    """Train the student on the references, with a learning rate that rises and falls linearly."""
    fix_random_seed(settings.seed)
    rng = random.Random(settings.seed)
    steps = max(1, math.ceil(settings.epochs * sum(map(words_to_encode, references)) / WORDS_PER_STEP))
    optimizer = adamw(warmup_linear(settings.learning_rate, steps), head_lr_multiplier=3.0)

    def examples() -> Iterator[Example]:
        while True:
            for reference in rng.sample(references, len(references)):
                yield make_example(student, reference)

    batches = minibatch_by_words(examples(), WORDS_PER_STEP, get_length=count_encoded_words)
    for batch in Bar(islice(batches, steps), total=steps, unit="step", desc=name, mininterval=1.0):
        student.update(batch, sgd=optimizer, drop=0.0)
        take_due_steps(student)  # at this step's learning rate
        optimizer.step_schedules()
