"""Copy a .spacy file with a limit on the words of a document and on the number of documents (sampled with seed 0).

    python benchmarks/biomedical/select_docs.py IN.spacy OUT.spacy --words 450 --documents 3000

The public corpora are larger than what two cores can train on in an evening. These two numbers define what a result was measured
on.
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
    selected = [doc for doc in docs if not arguments.words or len(doc) <= arguments.words]
    if arguments.documents and arguments.documents < len(selected):
        selected = random.Random(0).sample(selected, arguments.documents)
    write_docs(selected, arguments.target)
    print(f"{arguments.source}: selected {len(selected):,} of {len(docs):,} documents")


if __name__ == "__main__":
    main()
