"""Checks of the finished corpus."""

from __future__ import annotations

import re
from collections import Counter

from sample_corpus.documents import ENTITY_LABELS


def require(condition: object, message: str) -> None:
    """Raise ValueError unless the condition holds."""
    if not condition:
        raise ValueError(message)


def check_row(row: dict, all_tasks: set[str]) -> None:
    """Check the offsets, boundaries and overlaps of one document."""
    text, name = row["text"], row["id"]
    require(45 <= len(text.split()) <= 100, f"{name}: length {len(text.split())}")
    require(all_tasks & row.keys(), f"{name}: it has no annotation")
    previous_end = 0
    for ent in row.get("entities", []):
        start, end = ent["start"], ent["end"]
        mention = text[start:end]
        require(mention and mention == mention.strip(), f"{name}: bad span {start}-{end}")
        require(start >= previous_end, f"{name}: overlap at {start}")
        require(ent["label"] in ENTITY_LABELS, f"{name}: label {ent['label']}")
        require(not re.search(r"\w", text[start - 1 : start] + text[end : end + 1]), f"{name}: cuts a word")
        previous_end = end
    for qa in row.get("qas", []):
        require(qa["question"][0].isupper() and qa["question"].endswith("?"), f"{qa['id']}: {qa['question']}")
        for answer in qa["answers"]:
            start = answer["answer_start"]
            require(text[start : start + len(answer["text"])] == answer["text"], f"{qa['id']}: offset")
            require(1 <= len(answer["text"].split()) <= 12, f"{qa['id']}: answer length")


def validate(splits: dict[str, list[dict]], domain: list[list[str]], sizes: dict[str, int]) -> None:
    """Raise ValueError on any defect of the data, then print the counts."""
    texts = [row["text"].lower() for rows in splits.values() for row in rows]
    require(len(texts) == len(set(texts)), "duplicate text")
    body = "\n\n".join("\n".join(paragraphs) for paragraphs in domain).lower()
    require(not any(text in body for text in texts), "labelled text inside domain.txt")
    require(
        len(body.split()) >= 70_000 and len(domain) >= 700,
        f"domain too small: {len(body.split())}, {len(domain)}",
    )
    tasks = {"label", "entities", "qas"}
    for split, rows in splits.items():
        require(len(rows) == sizes[split], f"{split}: {len(rows)} rows")
        for row in rows:
            check_row(row, tasks)
        lacking = Counter(task for row in rows for task in tasks - row.keys())
        require(split != "train" or all(50 <= lacking[t] <= 70 for t in tasks), f"{split}: missing {lacking}")
        labels = Counter(row["label"] for row in rows if "label" in row)
        require(max(labels.values()) <= 0.28 * sum(labels.values()), f"{split}: labels {labels}")
        qas = [qa for row in rows for qa in row.get("qas", [])]
        empty = sum(not qa["answers"] for qa in qas)
        require(0.18 <= empty / len(qas) <= 0.33, f"{split}: {empty} of {len(qas)} unanswerable")
        ents = Counter(ent["label"] for row in rows for ent in row.get("entities", []))
        print(f"{split:6} docs {len(rows)} lacking {dict(sorted(lacking.items()))}")
        print(f"       labels {dict(sorted(labels.items()))}")
        print(f"       entities {dict(sorted(ents.items()))} questions {len(qas)} unanswerable {empty}")
    print(f"domain documents {len(domain)} words {len(body.split())}")
