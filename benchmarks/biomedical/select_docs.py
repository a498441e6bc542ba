"""Copy a .spacy file, keeping documents of at most so many words, and of those at most so many (drawn with seed 0).

    python benchmarks/biomedical/select_docs.py IN.spacy OUT.spacy --words 450 --documents 3000

The public corpora are larger than an evening on two cores; what a result was measured on is named by these two numbers.
"""

import argparse
import random
from pathlib import Path

import spacy

from mtl.data.docs import read_docs, write_docs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--words", type=int, default=0, help="0: any length")
    parser.add_argument("--documents", type=int, default=0, help="0: all")
    arguments = parser.parse_args()
    docs = list(read_docs(arguments.source, spacy.blank("en").vocab))
    kept = [doc for doc in docs if not arguments.words or len(doc) <= arguments.words]
    if arguments.documents and arguments.documents < len(kept):
        kept = random.Random(0).sample(kept, arguments.documents)
    write_docs(kept, arguments.target)
    print(f"{arguments.source}: kept {len(kept):,} of {len(docs):,} documents")


if __name__ == "__main__":
    main()
