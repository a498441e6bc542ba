"""Write the synthetic corpus of aircraft maintenance reports to corpus/: train, dev and test.jsonl, and domain.txt.

Standard library only, and deterministic: the same SEED gives the same bytes. Run: python scripts/make_corpus.py
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from sample_corpus.domain import make_domain
from sample_corpus.splits import make_split
from sample_corpus.validation import validate

SEED = 20417
SIZES = {"train": 300, "dev": 70, "test": 100}
CORPUS = Path(__file__).resolve().parent.parent / "corpus"


def main() -> None:
    """Make, check and write all files."""
    seen_texts: set[str] = set()
    splits: dict[str, list[dict]] = {}
    first_id = 1
    for split, size in SIZES.items():
        splits[split] = make_split(random.Random(f"{SEED}-{split}"), split, size, first_id, seen_texts)
        first_id += size
    eval_texts = [row["text"] for split in ("dev", "test") for row in splits[split]]
    domain = make_domain(random.Random(f"{SEED}-domain"), eval_texts, [row["text"] for rows in splits.values() for row in rows])
    validate(splits, domain, SIZES)
    for split, rows in splits.items():
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        (CORPUS / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    body = "\n\n".join("\n".join(paragraphs) for paragraphs in domain)
    (CORPUS / "domain.txt").write_text(body + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
