"""How sure teachers have to be of a text before a student learns from it, found on labelled documents, for each head."""

from pathlib import Path
from typing import Any, Iterator, Optional, Sequence, Tuple

from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Config

from mtl.data.docs import bare_doc, read_docs
from mtl.progress import Echo
from mtl.registry import heads_of
from mtl.training.initialize import init_pipeline

MIN_DOCUMENTS = 10  # that teachers are sure of: the precision of fewer says nothing

Judged = Tuple[float, float]  # how sure the teachers are of a document, and the fraction of them that is right


def require_precision(config: Config, dev: Sequence[Path], precision: float, echo: Echo) -> None:
    """Set `min_confidence` of each head's teachers so that what they are that sure of is right so often.

    A document is right if all of it is. A head whose teachers never are right so often learns from no unlabelled text.

    Args:
        config (Config): The student's training config, changed in place.
        dev (Sequence[Path]): Labelled documents that the teachers have not seen.
        precision (float): Fraction of documents, 0 to 1.
        echo (Echo): Says what was found.
    """
    nlp = init_pipeline(config)
    docs = [doc for path in dev for doc in read_docs(path, nlp.vocab)]
    for name, head in heads_of(nlp).items():
        if head.teacher is None or head.task.is_taught:
            continue
        judged = list(_judge(head, nlp, docs))
        if not judged:
            echo(f"{name}: its documents cannot be called right or wrong one by one, so all of the texts teach it")
            continue
        least = least_confidence(judged, precision)
        section = config["initialize"]["components"][name]["teacher"]
        section |= {"unlabelled_weight": 0.0} if least is None else {"unlabelled_weight": 1.0, "min_confidence": least}
        if least is None:
            echo(f"{name}: of {len(judged)} documents, none are right {precision:.0%} of the time: no text teaches this head")
        else:
            sure = [right for confidence, right in judged if confidence >= least]
            echo(f"{name}: from a confidence of {least:.3g}, {sum(sure) / len(sure):.0%} of {len(sure)} documents are right")


def least_confidence(judged: Sequence[Judged], precision: float) -> Optional[float]:
    """The lowest confidence from which on so many documents are right; None if there is none with enough documents."""
    found, right = None, 0.0
    ordered = sorted(judged, reverse=True)
    for count, (confidence, is_right) in enumerate(ordered, start=1):
        right += is_right
        has_ties = count < len(ordered) and ordered[count][0] == confidence
        if count >= MIN_DOCUMENTS and right >= precision * count and not has_ties:
            found = confidence
    return found


def _judge(head: Any, nlp: Any, docs: Sequence[Doc]) -> Iterator[Judged]:
    """What the teachers say of each document that is annotated for the head."""
    for doc in docs:
        if not head.is_annotated(doc):
            continue
        targets = head.teacher.targets(Example(nlp.make_doc(doc.text), doc))
        if targets:
            verdicts = [is_right(pipeline.nlp, name, doc) for pipeline, name in head.teacher.members]
            known = [verdict for verdict in verdicts if verdict is not None]
            if known:
                yield min(member.confidence for member in targets), sum(known) / len(known)


def is_right(nlp: Any, name: str, reference: Doc) -> Optional[bool]:
    """Whether all that a head predicts of a document agrees with its annotation; None if no score of one document says so."""
    head: Any = nlp.get_pipe(name)
    doc = bare_doc(reference, nlp.vocab)
    head.task.copy_inputs(reference, doc)
    example = Example(nlp(doc), reference)
    if not head.task.labels(reference) and not head.task.labels(example.predicted) and head.labels:
        return True
    scores = head.score([example])
    key = head.task.headline(scores)
    if key is not None and key.endswith("_auc"):  # ranks documents: of one it says nothing
        return None
    is_error = any(score.is_error for score in head.task.scores if score.key == key)
    return None if key is None or is_error else bool(scores[key] >= 1.0)
