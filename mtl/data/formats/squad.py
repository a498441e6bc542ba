"""SQuAD JSON, versions 1.1 and 2.0, nested and flat, and MRQA: one document per paragraph, with its questions."""

from typing import Any, Iterator

from mtl.data.formats.reading import Reading
from mtl.data.formats.source import Source
from mtl.data.records import GoldAnswer, Question, Record, Report
from mtl.errors import UserError


def is_squad(source: Source) -> bool:
    """Whether the rows are SQuAD's articles, flat rows of it, or MRQA's."""
    return any(
        isinstance(row.get("context"), str) or (isinstance(row.get("paragraphs"), list) and "context" in str(row)[:100_000])
        or isinstance(row.get("data"), list) or set(row) == {"header"}
        for row in source.first_objects
    )  # fmt: skip


def squad_records(row: Any, where: str, report: Report, reading: Reading) -> Iterator[Record]:
    """The paragraphs of a SQuAD file, of an article or of a flat row (https://rajpurkar.github.io/SQuAD-explorer), or a row of
    MRQA (https://github.com/mrqa/MRQA-Shared-Task-2019).

    Raises:
        UserError: A key is missing (with the article and paragraph it is missing from).
    """
    if not isinstance(row, dict):
        raise UserError(f"{where}: an object of SQuAD's is needed")
    if "data" in row and isinstance(row["data"], list):
        for number, article in enumerate(row["data"]):
            yield from _article(article, f"{where}, article {number}")
    elif "paragraphs" in row:
        yield from _article(row, where)
    elif "context" in row:
        yield _paragraph(row, where)
    elif "header" not in row:  # with which MRQA's files begin
        raise UserError(f'{where}: not SQuAD JSON: there is no "data", "paragraphs" or "context"')


def _article(article: Any, where: str) -> Iterator[Record]:
    if isinstance(article, dict) and "context" in article:
        yield _paragraph(article, where)
        return
    try:
        paragraphs, title = article.get("paragraphs", ()), article.get("title", "no title")
    except AttributeError:
        raise UserError(f"{where}: does not have the shape of SQuAD JSON") from None
    for number, paragraph in enumerate(paragraphs):
        yield _paragraph(paragraph, f"{where} ({title}), paragraph {number}")


def _paragraph(paragraph: Any, where: str) -> Record:
    try:
        items = paragraph.get("qas", [paragraph])
        text, questions = (
            paragraph["context"],
            [parse_question(_as_squad(item, i, paragraph["context"]), iter(())) for i, item in enumerate(items, 1)],
        )
        if not isinstance(text, str):
            raise ValueError(f'"context" must be a string, got {text!r}')
        return Record(text, where, questions=questions)
    except KeyError as error:
        raise UserError(f"{where}: {error} is missing") from None
    except (TypeError, AttributeError):
        raise UserError(f"{where}: does not have the shape of SQuAD JSON") from None
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def _as_squad(item: Any, number: int, context: Any) -> Any:
    """A question of MRQA's or of `datasets`, or one with bare answers, in the form of SQuAD."""
    if not isinstance(item, dict):
        return item
    answers = item.get("answers", item.get("answer"))
    if isinstance(answers, (str, int, float)) or (isinstance(answers, list) and answers and isinstance(answers[0], str)):
        answers = [_located(str(answer), item, context) for answer in (answers if isinstance(answers, list) else [answers])]
    if isinstance(item.get("detected_answers"), list):
        found = item["detected_answers"]
        answers = [{"text": one["text"], "answer_start": place[0]} for one in found for place in one["char_spans"]]
    elif isinstance(answers, dict) and isinstance(answers.get("text"), list) and "answer_start" in answers:
        answers = [{"text": text, "answer_start": start} for text, start in zip(answers["text"], answers["answer_start"])]
    elif isinstance(answers, dict) and "text" in answers:
        texts = answers["text"] if isinstance(answers["text"], list) else [answers["text"]]
        answers = [_located(str(text), answers, context) for text in texts]
    elif answers is None and "answer" in item:
        answers = []
    given = item.get("id", item.get("qid"))
    return {**item, "answers": answers, "id": f"q{number}" if given is None and "context" in item else given}


def _located(answer: str, item: Any, context: Any) -> Any:
    """An answer without its place: where the row says, or where the text has it first.

    Raises:
        ValueError: The text does not have it.
    """
    start = item.get("answer_start", item.get("start"))
    if type(start) is not int:
        start = str(context).find(answer)
    if start < 0:
        raise ValueError(f"the answer {answer!r} is not in the text")
    return {"text": answer, "answer_start": start}


def parse_question(item: Any, names: Iterator[str]) -> Question:
    """A question with its answers, in the form of SQuAD.

    Args:
        item (Any): The JSON object. "answers" may be left out only if "is_impossible" says that there is none.
        names (Iterator[str]): The next one is the question's id if it has no "id".

    Raises:
        ValueError: The shape is wrong.
    """
    if not isinstance(item, dict) or not isinstance(item.get("question"), str):
        raise ValueError(f'a question is {{"question": "..", "answers": [..]}}, got {item!r}')
    question_id = item["id"] if item.get("id") is not None else next(names, None)
    if question_id is None:
        raise ValueError(f'the question {item["question"]!r} has no "id"')
    impossible = item.get("is_impossible")
    if impossible not in (None, True, False):
        raise ValueError(f'"is_impossible" must be true or false, got {impossible!r}')
    answers = [] if impossible else item.get("answers")
    if not isinstance(answers, list):
        raise ValueError(f'the question {item["question"]!r} needs "answers", a list; empty if the text does not answer it')
    return Question(str(question_id), item["question"].strip(), [_gold_answer(answer) for answer in answers])


def _gold_answer(answer: Any) -> GoldAnswer:
    """An answer from its JSON object."""
    if not isinstance(answer, dict) or type(answer.get("answer_start")) is not int or not isinstance(answer.get("text"), str):
        raise ValueError(f'an answer is {{"text": "..", "answer_start": 4}}, got {answer!r}')
    if answer["answer_start"] < 0:
        raise ValueError(f'"answer_start" is a place in the text, got {answer["answer_start"]}')
    return GoldAnswer(answer["answer_start"], answer["text"])
