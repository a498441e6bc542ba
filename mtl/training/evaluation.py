"""Scores of every head beside trivial baselines."""

import time
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from spacy.language import Language
from spacy.scorer import get_ner_prf
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.util import filter_spans

from mtl.data.docs import bare_doc, gold_number, gold_questions, read_docs
from mtl.errors import UserError
from mtl.heads.qa.component import gold_texts
from mtl.heads.qa.metrics import score_answers
from mtl.mixture.reader import read_examples

# score -> what it is called, in the order of the table; the first of each head is compared with its baseline
SCORES = {
    "cats_accuracy": "categories: accuracy",
    "cats_macro_f": "categories: macro F1",
    "cats_micro_f": "categories: micro F1",
    "cats_macro_auc": "categories: macro AUC",
    "ents_f": "entities: F1",
    "ents_p": "entities: precision",
    "ents_r": "entities: recall",
    "qa_f1": "questions: token F1",
    "qa_em": "questions: exact match",
    "qa_f1_answered": "questions with an answer: token F1",
    "qa_f1_unanswerable": "questions without an answer: right",
    "tag_acc": "tags: accuracy",
    "pos_acc": "parts of speech: accuracy",
    "score_spearman": "numbers: Spearman",
    "score_pearson": "numbers: Pearson",
    "score_mae": "numbers: mean absolute error",
    "score_rmse": "numbers: root mean squared error",
}
ERRORS = ("_mae", "_rmse")  # in the data's own unit; the others are shares, shown in points
NUMBERS = ("_spearman", "_pearson", *ERRORS)


def is_error(key: str) -> bool:
    return key.endswith(ERRORS)


def name_of(key: str) -> str:
    """What a score is called."""
    if key not in SCORES and key.endswith(NUMBERS):  # of a regressor with a key of its own
        own, _, kind = key.rpartition("_")
        return f"{own}: {SCORES[f'score_{kind}'].partition(': ')[2]}"
    return SCORES[key]


def evaluate_pipeline(nlp: Language, data: Sequence[Path], train: Sequence[Path] = ()) -> Dict[str, Any]:
    """Score the pipeline on all documents of `data`; with `train`, also what needs no model.

    RETURNS (dict): "scores", "baselines", "per_type", "unknown_labels", "documents", "words", "seconds".
    RAISES (UserError): nothing in `data` is annotated for any of the pipeline's heads.
    """
    examples = list(read_examples(nlp, data))
    started = time.perf_counter()
    found = nlp.evaluate(examples)
    seconds = time.perf_counter() - started
    keys = [*SCORES, *(key for key in found if key not in SCORES and key.endswith(NUMBERS))]
    scores = {key: found[key] for key in keys if found.get(key) is not None}
    if not scores:
        raise UserError(f"{', '.join(map(str, data))}: no document is annotated for any of {', '.join(nlp.pipe_names)}")
    result = {
        "scores": scores,
        "per_type": {key: found[key] for key in ("ents_per_type", "cats_f_per_type") if found.get(key)},
        "documents": len(examples),
        "words": sum(len(example.reference) for example in examples),
        "seconds": round(seconds, 2),
    }
    result["unknown_labels"] = unknown_labels(nlp, [example.reference for example in examples])
    if train:
        known = [doc for path in train for doc in read_docs(path, nlp.vocab)]
        result["baselines"] = baselines(known, [example.reference for example in examples])
    return result


def unknown_labels(nlp: Language, references: List[Doc]) -> List[str]:
    """The labels in the gold annotation that no component of the pipeline has, which then can only be missed."""
    known = {label for name in nlp.pipe_names for label in getattr(nlp.get_pipe(name), "labels", ())}
    gold = {label for doc in references for label, value in doc.cats.items() if value > 0}
    return sorted((gold | {ent.label_ for doc in references for ent in doc.ents}) - known)


def baselines(train: List[Doc], test: List[Doc]) -> Dict[str, Tuple[float, str]]:
    """score -> (value, what it is): majority class, dictionary of training entities, first sentence or no answer."""
    found: Dict[str, Tuple[float, str]] = {}
    accuracy = _majority(train, test)
    if accuracy is not None:
        found["cats_accuracy"] = (accuracy, "most frequent category")
    f1 = dictionary_baseline(train, test)
    if f1 is not None:
        found["ents_f"] = (f1, "dictionary of training entities")
    errors = _mean_number(train, test)
    if errors:
        found["score_mae"] = (errors[0], "mean of the training data")
        found["score_rmse"] = (errors[1], "mean of the training data")
    answers = _first_sentence(test)
    if answers:
        name = max(answers, key=lambda key: answers[key]["qa_f1"])
        found["qa_f1"] = (answers[name]["qa_f1"], name)
        found["qa_em"] = (answers[name]["qa_em"], name)
    return found


def _majority(train: List[Doc], test: List[Doc]) -> Optional[float]:
    gold = [best_category(doc.cats) for doc in test if doc.cats and sum(doc.cats.values()) == 1]
    seen = Counter(best_category(doc.cats) for doc in train if doc.cats)
    return gold.count(seen.most_common(1)[0][0]) / len(gold) if gold and seen else None


def _mean_number(train: List[Doc], test: List[Doc]) -> Optional[Tuple[float, float]]:
    known, gold = ([number for doc in docs if (number := gold_number(doc)) is not None] for docs in (train, test))
    if not known or not gold:
        return None
    apart = [abs(number - sum(known) / len(known)) for number in gold]
    return sum(apart) / len(apart), (sum(one**2 for one in apart) / len(apart)) ** 0.5


def best_category(cats: Dict[str, float]) -> str:
    return max(cats, key=lambda label: cats[label])


def dictionary_baseline(train: List[Doc], test: List[Doc]) -> Optional[float]:
    """Every longest string that was an entity in training, with its most frequent type."""
    names: Dict[Tuple[str, ...], Counter] = {}
    for doc in train:
        for ent in doc.ents:
            names.setdefault(tuple(token.text.lower() for token in ent), Counter())[ent.label_] += 1
    longest = max(map(len, names), default=0)
    examples = []
    for doc in test:
        if not doc.has_annotation("ENT_IOB"):
            continue
        words = [token.text.lower() for token in doc]  # `lower_` is empty where the vocab is no language's
        spans = [
            Span(doc, start, end, label=names[key].most_common(1)[0][0])
            for start in range(len(doc))
            for end in range(start + 1, min(start + longest, len(doc)) + 1)
            if (key := tuple(words[start:end])) in names
        ]
        guess = bare_doc(doc, doc.vocab)
        guess.set_ents([Span(guess, s.start, s.end, label=s.label) for s in filter_spans(spans)])
        examples.append(Example(guess, doc))
    return get_ner_prf(examples)["ents_f"] if examples else None


def _first_sentence(test: List[Doc]) -> Dict[str, Dict[str, float]]:
    """The first sentence as every answer, and no answer at all."""
    first, golds = {}, {}
    for i, doc in enumerate(test):
        for id in gold_questions(doc):
            golds[f"{i}/{id}"] = gold_texts(doc, id)
            first[f"{i}/{id}"] = doc.text.split(". ")[0]
    if not golds:
        return {}
    return {"first sentence": score_answers(first, golds), "never an answer": score_answers({}, golds)}


def shown(key: str, value: float) -> str:
    """A score as it is printed."""
    return f"{value:.3g}" if is_error(key) else f"{100 * value:.1f}"


def table(result: Dict[str, Any]) -> str:
    """The scores as a person reads them, in points."""
    known = result.get("baselines", {})
    width = max(len(name_of(key)) for key in result["scores"])
    lines = [f"{'':{width}}  {'score':>6}  " + ("  trivial baseline" if known else "")]
    for key, value in result["scores"].items():
        line = f"{name_of(key):{width}}  {shown(key, value):>6}  "
        if key in known:
            line += f"  {shown(key, known[key][0]):>5}  ({known[key][1]})"
        lines.append(line.rstrip())
    lines.append(f"{result['documents']:,} documents, {result['words']:,} words, {result['seconds']:.1f} s")
    if result.get("unknown_labels"):
        lines.append(f"note: the pipeline does not know these labels of the data: {', '.join(result['unknown_labels'])}")
    return "\n".join(lines)
