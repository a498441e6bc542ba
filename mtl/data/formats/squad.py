"""SQuAD JSON, versions 1.1 and 2.0: one document per paragraph, with all its questions."""

from typing import Any, Iterator

from mtl.data.records import GoldAnswer, Question, Record, Report, parse_json, read_text
from mtl.errors import UserError


def read_squad(path: str, report: Report) -> Iterator[Record]:
    """Read a SQuAD file (https://rajpurkar.github.io/SQuAD-explorer).

    Args:
        path (str): The file.
        report (Report): Not used; all readers take one.

    Raises:
        UserError: The file is not JSON, or a key is missing (with the article and paragraph it is missing from).
    """
    tree = parse_json(read_text(path), path)
    if not isinstance(tree, dict) or not isinstance(tree.get("data"), list):
        raise UserError(
            f'{path}: not SQuAD JSON: the top level needs the key "data" with a list. '
            f"(In JSON Lines, each document is on a line of its own)"
        )
    for a, article in enumerate(tree["data"]):
        where = f"{path}, article {a}"
        try:
            for p, paragraph in enumerate(article.get("paragraphs", ())):
                where = f"{path}, article {a} ({article.get('title', 'no title')}), paragraph {p}"
                text, questions = paragraph["context"], [parse_question(qa, iter(())) for qa in paragraph["qas"]]
                if not isinstance(text, str):
                    raise ValueError(f'"context" must be a string, got {text!r}')
                yield Record(text, where, questions=questions)
        except KeyError as error:
            raise UserError(f"{where}: {error} is missing") from None
        except (TypeError, AttributeError):
            raise UserError(f"{where}: does not have the shape of SQuAD JSON") from None
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None


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
    answers = [] if item.get("is_impossible") else item.get("answers")
    if not isinstance(answers, list):
        raise ValueError(f'the question {item["question"]!r} needs "answers", a list; empty if the text does not answer it')
    return Question(str(question_id), item["question"].strip(), [_gold_answer(answer) for answer in answers])


def _gold_answer(answer: Any) -> GoldAnswer:
    """An answer from its JSON object."""
    if not isinstance(answer, dict) or type(answer.get("answer_start")) is not int or not isinstance(answer.get("text"), str):
        raise ValueError(f'an answer is {{"text": "..", "answer_start": 4}}, got {answer!r}')
    return GoldAnswer(answer["answer_start"], answer["text"])
