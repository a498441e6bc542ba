"""Smaller students of a finished pipeline: fewer or narrower layers, taught by its own predictions on domain text."""

import math
import random
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Sequence

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.training.batchers import minibatch_by_words
from spacy.util import load_model
from thinc.api import fix_random_seed
from tqdm import tqdm

from mtl.data.docs import bare_doc, gold_questions, read_docs
from mtl.encoder.component import Transformer
from mtl.encoder.torch_encoder import Encoder
from mtl.errors import UserError, check_range
from mtl.files import check_target, replacing, write_json
from mtl.machine import machine
from mtl.mixture.reader import count_encoded_words, make_example, words_to_encode
from mtl.serving.optimize import headlines, time_in_turn
from mtl.training.evaluation import evaluate_pipeline, name_of, shown
from mtl.training.optimizer import adamw
from mtl.training.saving import without_local_paths
from mtl.training.schedules import warmup_linear
from mtl.training.shrink import keep_layers, narrow

STEP_WORDS = 1000  # as the encoder reads them, in a step
LONGEST = 2000  # tokens of a text that is learned from; a longer one is cut
TIMED = 60  # documents that the speed is measured on
Echo = Callable[[str], None]


def distill(
    pipeline: str, texts: Iterable[str], asked: Sequence[Path], dev: Sequence[Path], layers: Sequence[int], out: Path,
    passes: float, learn_rate: float, echo: Echo, seed: int = 0, width: float = 1.0,
) -> Dict[str, Any]:  # fmt: skip
    """Make a student for each number of layers, and write it to `out/layers-N`, or `out/layers-N-width-W`.

    A student begins as the teacher with some of its layers, evenly spread, and every head (see `keep_layers` and `narrow`); it
    learns what the teacher says of the texts and of the documents in `asked`, whose questions the teacher answers.

    texts: unlabelled. dev: what all are scored on. passes: over texts and documents. width: the share of the neurons of
    feed-forward layers that is kept. RETURNS: the report, also in `out/distill.json`: "students" {NAME: {"scores",
    "words_per_second", "over_teacher"}}, the teacher's own among them. RAISES (UserError): a number of layers that the encoder
    has not; nothing to learn from; feed-forward layers that cannot be narrowed.
    """
    check_range("passes", passes, 0.01)
    check_range("learn-rate", learn_rate, 0.0, 1.0)
    check_range("width", width, 0.01, 1.0)
    check_target(out, "distill.json")
    teacher = load_model(pipeline)
    whole = encoder_of(teacher).layers
    most = whole if width < 1 else whole - 1
    for count in layers:
        if not 1 <= count <= most:
            raise UserError(f"layers = {count}: the teacher's encoder has {whole}; give numbers from 1 to {most}")
    references = list(taught(teacher, texts, asked, echo))
    if not references:
        raise UserError("there is no text to learn from: name some with --text, or labelled documents with --asked")
    students = {str(whole): teacher}
    for count in layers:
        student = load_model(pipeline)
        keep_layers(encoder_of(student), count)
        if width < 1:
            narrow(encoder_of(student), width, [reference.text for reference in references])
        name = f"{count}" + (f"-width-{width:g}" if width < 1 else "")
        learn(student, references, passes, learn_rate, seed, f"layers {name}")
        students[name] = student
    report = {"teacher_layers": whole, "width": width, **compare_students(students, dev, echo)}
    with replacing(out, "distill.json") as partial:
        partial.mkdir()
        for name in list(students)[1:]:
            students[name].to_disk(partial / f"layers-{name}")
            without_local_paths(partial / f"layers-{name}" / "config.cfg")
        write_json(partial / "distill.json", report)
    return report


def encoder_of(nlp: Language) -> Encoder:
    """RAISES (UserError): the pipeline has none of ours."""
    for _, pipe in nlp.pipeline:
        if isinstance(pipe, Transformer):
            return pipe.encoder
    raise UserError(f"the pipeline has no mtl_transformer; its components are {', '.join(nlp.pipe_names)}")


def taught(teacher: Language, texts: Iterable[str], asked: Sequence[Path], echo: Echo) -> Iterator[Doc]:
    """Docs that carry the teacher's predictions as if they were annotation."""

    def docs() -> Iterator[Doc]:
        for text in texts:
            yield teacher.make_doc(text)[:LONGEST].as_doc()
        for path in asked:
            for reference in read_docs(path, teacher.vocab):
                doc = bare_doc(reference, teacher.vocab)
                if Doc.has_extension("questions"):  # where the teacher answers any
                    doc._.questions = gold_questions(reference)
                yield doc

    heads = [pipe for _, pipe in teacher.pipeline if hasattr(pipe, "as_reference")]
    for doc in tqdm(teacher.pipe(docs(), batch_size=64), unit=" documents", desc="the teacher reads", mininterval=1.0):
        if len(doc):
            for head in heads:
                doc = head.as_reference(doc)
            yield doc


def learn(student: Language, references: List[Doc], passes: float, learn_rate: float, seed: int, name: str) -> None:
    """Train the student on the references, in batches of `STEP_WORDS` words; its rate rises and falls to 0."""
    fix_random_seed(seed)
    chance = random.Random(seed)
    steps = max(1, math.ceil(passes * sum(map(words_to_encode, references)) / STEP_WORDS))
    optimizer = adamw(warmup_linear(learn_rate, steps), head_factor=3.0)

    def examples() -> Iterator[Example]:
        while True:
            for reference in chance.sample(references, len(references)):
                yield make_example(student, reference)

    batches = minibatch_by_words(examples(), STEP_WORDS, get_length=count_encoded_words)
    for batch in tqdm(islice(batches, steps), total=steps, unit="step", desc=name, mininterval=1.0):
        student.update(batch, sgd=optimizer, drop=0.0)
        optimizer.step_schedules()


def compare_students(pipelines: Dict[str, Language], dev: Sequence[Path], echo: Echo) -> Dict[str, Any]:
    """Scores on dev, and words a second in turn, of the teacher (which comes first) and its students."""
    found: Dict[str, Dict[str, Any]] = {}
    for name, nlp in pipelines.items():
        echo(f"scoring layers {name}")
        scores = evaluate_pipeline(nlp, dev)["scores"]
        found[name] = {"scores": {key: scores[key] for key in headlines(scores)}}
    teacher = next(iter(pipelines.values()))
    texts = [doc.text for path in dev for doc in read_docs(path, teacher.vocab)]
    texts = random.Random(0).sample(texts, min(TIMED, len(texts)))
    for name, rate in time_in_turn(pipelines, texts, 3.0, lambda _: None).items():
        found[name] |= {"words_per_second": rate["words_per_second"], "over_teacher": rate["over_first"]}
    return {"students": found, "machine": machine()}


def distill_table(report: Dict[str, Any]) -> str:
    """The line of speed against score, as a person reads it."""
    rows = report["students"]
    keys = list(next(iter(rows.values()))["scores"])
    names = [name_of(key).replace(": ", " ") for key in keys]
    width = max(8, 2 + max(map(len, rows)))
    lines = [f"{'layers':{width}}{'words/s':>9}{'over teacher':>14}" + "".join(f"  {name}" for name in names)]
    for student, row in rows.items():
        scores = "".join(f"  {shown(key, row['scores'][key]):>{len(name)}}" for key, name in zip(keys, names))
        lines.append(f"{student:{width}}{row['words_per_second']:>9,.0f}{row['over_teacher']:>14.2f}{scores}")
    return "\n".join(lines)
