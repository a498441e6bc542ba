"""Questions to a Doc and their answers: the extensions `doc._.ask`, `doc._.questions` and `doc._.answers`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, List, Optional, Tuple, Union
from weakref import WeakKeyDictionary, WeakValueDictionary

from spacy.tokens import Doc, Span

from mtl.errors import UserError
from mtl.extensions import install_extension

if TYPE_CHECKING:
    from mtl.tasks.qa.component import QuestionAnswerer

ANSWERS = "answers"  # key of doc.spans

# All heads, by id, in the order in which they were made. `doc._.ask` also works on a Doc that no head has seen, such as one from
# `nlp.make_doc` or a DocBin: it is answered by a head with the same vocabulary. Weak, so that a head is freed with its pipeline.
_heads: "WeakValueDictionary[int, QuestionAnswerer]" = WeakValueDictionary()
# The head that each Doc went through last. The vocabulary alone does not tell, since a pipeline may have several heads and
# pipelines may share a vocabulary. Weak in the Doc, which must not be kept; the head stays as long as the Doc can be asked.
_head_of: "WeakKeyDictionary[Doc, QuestionAnswerer]" = WeakKeyDictionary()


@dataclass(frozen=True)
class Answer:
    """An answer to a question, or that there is none.

    Args:
        question (str): The question.
        span (Optional[Span]): The Doc's tokens; None if the text does not answer.
        score (float): The probability of that span. All spans and "no answer" share a probability of 1.
        no_answer_score (float): The probability that the text does not answer.
        margin (float): Logit of the best span minus logit of "no answer". The head answers if it exceeds its threshold.
    """

    question: str
    span: Optional[Span]
    score: float
    no_answer_score: float
    margin: float

    @property
    def text(self) -> str:
        """The answer, "" if there is none."""
        return self.span.text if self.span is not None else ""

    def __str__(self) -> str:
        return self.text


def register_head(head: "QuestionAnswerer") -> None:
    """Let a head answer Docs with its vocabulary, and install the extensions."""
    _heads[id(head)] = head
    needed_by = f"the question answering head {head.name!r}"
    install_extension(Doc, "questions", needed_by, default=None)
    install_extension(Doc, "answers", needed_by, getter=predicted_answers)
    install_extension(Doc, "ask", needed_by, method=_ask)


def remember_head(doc: Doc, head: "QuestionAnswerer") -> None:
    """Let a head answer this Doc from now on."""
    _head_of[doc] = head


def questions_of(doc: Doc) -> Dict[str, str]:
    """The Doc's questions by id.

    Raises:
        UserError: `doc._.questions` is neither a list of texts nor {id: text}.
    """
    value = doc._.questions
    if value is None:
        return {}
    questions = {f"q{i}": text for i, text in enumerate(value, start=1)} if isinstance(value, (list, tuple)) else value
    if not isinstance(questions, dict) or not all(isinstance(text, str) and text.strip() for text in questions.values()):
        raise UserError(f"doc._.questions must be a list of questions, or {{id: question}}, none of them empty; got {value!r}")
    if len({str(id) for id in questions}) < len(questions):
        raise UserError(f"doc._.questions: two ids are the same as text; got {value!r}")
    return {str(id): text for id, text in questions.items()}


def _ask(doc: Doc, question: str, n: Optional[int] = None) -> Union[Answer, List[Answer]]:
    """`doc._.ask(question)`: the best answer. `doc._.ask(question, n=3)`: a list of the best ones, best first."""
    head = _head_of.get(doc)
    if head is None:  # the last one made, which in a pipeline with several is the last one that Docs go through
        made = [reference() for reference in reversed(_heads.valuerefs())]
        heads = [head for head in made if head is not None and head.vocab is doc.vocab and head.model.shims]
        if len({id(head.transformer) for head in heads}) > 1:
            raise UserError(
                "doc._.ask: several pipelines have this Doc's vocabulary, and none has processed it. Process it with one of them "
                "first, or ask its head: nlp.get_pipe('qa').ask(doc, question)"
            )
        head = heads[0] if heads else None
    if head is None:
        raise UserError("doc._.ask: no pipeline with an 'mtl_qa' component made this Doc; load one, and make the Doc with it")
    answers = head.ask(doc, question, 1 if n is None else n)
    return answers[0] if n is None else answers


def predicted_answers(doc: Doc) -> Dict[str, Answer]:
    """`doc._.answers`: the best answer to each of `doc._.questions`, by id."""
    if ANSWERS not in doc.spans or "margins" not in doc.spans[ANSWERS].attrs:  # there are none, or they are not ours
        return {}
    group = doc.spans[ANSWERS]
    attrs = group.attrs
    best: Dict[str, Tuple[float, Optional[Span]]] = {}
    for span, score in zip(group, attrs["scores"]):
        best.setdefault(span.id_, (score, span))
    answers = {}
    for id, question in attrs["questions"].items():
        score, answer = best.get(id, (0.0, None))
        answers[id] = Answer(question, answer, score, attrs["no_answer_scores"][id], attrs["margins"][id])
    return answers
