"""How many padded subwords to run at once: words per second of the bare forward pass by batch size, interleaved, in one run.

    python benchmarks/serving/batches.py OUT.json --text FILE [--encoder minilm | plumbing]

`mtl.encoder.runtime.device.good_batch` is based on these measurements.
"""

import argparse
import json
import tempfile
from pathlib import Path

from peers import count_words, environment, measure, median_rates, sample_rounds
from pipelines import MINILM, ROOT, TINY, bare, random_encoder

from mtl.adaptation.text import read_documents
from mtl.encoder.runtime.device import pick_device

SIZES = {"cpu": (256, 512, 1024, 2048, 4096, 8192), "cuda": (4096, 8192, 16384, 32768, 65536)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--encoder", choices=("minilm", "plumbing"), default="minilm")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--text", default=str(ROOT / "corpus" / "domain.txt"), help=".txt, .jsonl or .spacy file, or a folder")
    parser.add_argument("--documents", type=int, default=120, help="documents per round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    samples = sample_rounds(list(read_documents([arguments.text])), arguments.documents, arguments.rounds, arguments.documents)
    words = count_words(samples)
    with tempfile.TemporaryDirectory() as folder:
        encoder = MINILM if arguments.encoder == "minilm" else random_encoder(Path(folder), **TINY)
        seconds = measure({str(size): bare(encoder, False, device, size) for size in SIZES[device.type]}, samples)
    rates = median_rates(seconds, words)
    for size, rate in rates.items():
        print(f"{size:>6} subwords per batch {rate:10,.0f} words/s")
    result = {"encoder": arguments.encoder, "text": Path(arguments.text).name, "documents": arguments.documents, "words": words}
    result |= {"words_per_second": rates, "seconds": seconds, "environment": environment()}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
