"""SQuAD JSON, 1.1 and 2.0: one document a paragraph, with all its questions."""

import json
from typing import Iterator

from mtl.data.records import Answer, Question, Record, Report, read_text
from mtl.errors import UserError


def read_squad(path: str, report: Report) -> Iterator[Record]:
    """Read a SQuAD file (https://rajpurkar.github.io/SQuAD-explorer).

    RAISES (UserError): not JSON, or a key is missing (with the article and paragraph where it is missing).
    """
    try:
        tree = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: not valid JSON ({error.msg})") from None
    if not isinstance(tree, dict) or "data" not in tree:
        raise UserError(f'{path}: not SQuAD JSON: the top level needs the key "data"')
    for a, article in enumerate(tree["data"]):
        for p, paragraph in enumerate(article.get("paragraphs", ())):
            where = f"{path}, article {a} ({article.get('title', 'no title')}), paragraph {p}"
            try:
                questions = [_question(qa) for qa in paragraph["qas"]]
                yield Record(paragraph["context"], where, questions=questions)
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(f"{where}: {error} is missing or has the wrong shape") from None


def _question(qa: dict) -> Question:
    answers = [] if qa.get("is_impossible") else [Answer(int(a["answer_start"]), a["text"]) for a in qa["answers"]]
    return Question(str(qa["id"]), qa["question"].strip(), answers)
