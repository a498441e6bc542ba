"""Which questions and answers of the training data the settings rule out, said before training."""

import logging
import math
from collections import Counter
from typing import Callable, Iterable, Iterator, List

from spacy.tokens import Doc

from mtl.errors import UserError
from mtl.tasks.qa.gold import GOLD, gold_questions

logger = logging.getLogger(__name__)
MAX_ANSWER_TOKENS = 30  # of an answer, by default
COVERED = 0.99  # of the answers, by the length that is proposed


class TrainingLimits:
    """The questions of a corpus, and how long their answers are in tokens."""

    def __init__(self) -> None:
        self.questions: Counter = Counter()
        self.answer_lengths: List[int] = []

    def noting(self, references: Iterable[Doc]) -> Iterator[Doc]:
        """The documents as they come, each noted."""
        for reference in references:
            self.questions.update(gold_questions(reference).values())
            self.answer_lengths += [len(span) for span in reference.spans.get(GOLD, ())]
            yield reference

    def report(self, head: str, transformer: str, fits: Callable[[str], bool], max_answer_tokens: int) -> None:
        """Warn of what cannot be learned.

        Args:
            head (str): The head's name.
            transformer (str): The transformer's name.
            fits (Callable): Whether a question leaves enough room in the encoder's window.
            max_answer_tokens (int): Length of the longest answer that the head predicts.

        Raises:
            UserError: No question fits.
        """
        too_long = [question for question in self.questions if not fits(question)]
        if too_long:
            count, total = sum(self.questions[question] for question in too_long), sum(self.questions.values())
            message = (
                f"the head {head!r}: {count} of {total} questions are too long for the encoder's window, such as "
                f"{too_long[0][:60]!r}. Shorten them, or set a larger components.{transformer}.model.window"
            )
            if count == total:
                raise UserError(message)
            logger.warning("%s; they are left out", message)
        lengths = sorted(self.answer_lengths)
        beyond = sum(length > max_answer_tokens for length in lengths)
        if beyond:
            enough = lengths[math.ceil(COVERED * len(lengths)) - 1]
            logger.warning(
                "the head %r: components.%s.max_answer_tokens = %d makes %d of %d answers (%.0f%%) impossible to predict; "
                "%d covers %.0f%%",
                head, head, max_answer_tokens, beyond, len(lengths), 100 * beyond / len(lengths), enough, 100 * COVERED,
            )  # fmt: skip
