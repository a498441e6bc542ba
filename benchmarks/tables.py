"""Markdown tables for the documentation from the benchmarks' result files.

Run it to print all tables, or those that are named: python benchmarks/tables.py peers
"""

import json
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

ROOT = Path(__file__).resolve().parent
TASKS = {"cats_accuracy": "roles", "ents_f": "entities", "qa_f1": "questions"}
# Result files of older runs have the names that these fields had then.
RENAMED = {"subwords_per_second": "wordpieces_per_second", "baseline": "theirs", "over_baseline": "over_theirs"}


def read(name: str) -> Dict[str, Any]:
    """A result file, by folder and name: "serving/startup"."""
    folder, _, file = name.partition("/")
    return json.loads((ROOT / folder / "results" / f"{file}.json").read_text(encoding="utf-8"))


def field(row: Dict[str, Any], name: str) -> Any:
    """A field by its name of today, which an older file may have under its name of then."""
    return row[name] if name in row else row[RENAMED[name]]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]], text: Sequence[str] = ()) -> str:
    """A table whose columns but the first are numbers.

    Args:
        header (Sequence[str]): Titles of the columns.
        rows (Sequence[Sequence[str]]): The cells.
        text (Sequence[str]): Titles of columns that are text, too.
    """
    lines = [header, ["---", *("---" if title in text else "---:" for title in header[1:])], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def source(*names: str) -> str:
    """A line that says where the numbers come from, and on which machine they were measured."""
    machines = []
    for name in names:
        environment = read(name).get("environment") or {}
        processor = str(environment.get("gpu") or environment.get("processor", "")).replace("(R)", "").replace(" Processor", "")
        threads = environment.get("threads")
        machines.append(f"`{name.replace('/', '/results/')}.json`" + (f" ({processor}, {threads} threads)" if processor else ""))
    return "Source: " + ", ".join(machines).replace("1 threads", "1 thread") + "."


def points(value: float, signed: bool = False) -> str:
    """A number of points with one decimal."""
    return f"{value:+.1f}" if signed else f"{value:.1f}"


def twins() -> str:
    """Joint heads against models trained for one task."""
    titles = {
        "roles": "abstract roles, accuracy",
        "ner": "BC5CDR, entity F1",
        "qa": "Evidence Inference, token F1",
    }
    result = read("biomedical/comparison")
    tasks = result["twins"][0]["tasks"]
    rows = []
    for name in ("roles", "ner", "qa"):
        row, size = result["comparison"][name], tasks[name]
        title = f"{titles[name]} ({size['train']:,} training documents)"
        rows.append([title, points(row["joint"]), points(row["twin"]), points(row["difference"], signed=True)])
    return markdown(["dev set", "joint", "twin", "difference"], rows)


def precision(name: str) -> str:
    """Speed and scores of each precision and backend of a result file."""
    rows = []
    for candidate, row in read(name)["tried"].items():
        title = candidate.replace(" ", ", ").replace("openvino", "OpenVINO")
        scores = [f"{100 * row['scores'][key]:.2f}" for key in TASKS]
        rows.append([title, f"{row['words_per_second']:,.0f}", *scores, f"{row['drop']:.2f}"])
    header = ["precision, backend", "words/s", *TASKS.values(), "largest drop"]
    return markdown(header, rows) + "\n\n" + source(name)


# Key of a rate in the result files of `serving/peers.py` -> what it is.
PEERS = {
    "bare": "bare tokenize + forward, fp32",
    "bare bf16": "the same in bf16",
    "bare fp16": "the same in fp16",
    "ours": "spacy-mtl, fp32, torch",
    "ours fp32 openvino": "spacy-mtl, fp32, OpenVINO",
    "ours bf16": "spacy-mtl, bf16",
    "ours fp16": "spacy-mtl, fp16",
    "ours int8": "spacy-mtl, int8",
    "ours at best": "spacy-mtl in its fastest precision",
    "stock": "spaCy `transformer` + `ner` + `textcat`",
    "edsnlp ner alone": "EDS-NLP, CRF tagger alone",
    "edsnlp ner and qa": "EDS-NLP, CRF tagger and question answering",
    "hf one by one": "three Hugging Face pipelines, one by one",
    "hf in batches of 16": "three Hugging Face pipelines, in batches of 16",
}


def rates(names: Dict[str, str]) -> str:
    """Words per second of several result files, a column each.

    Args:
        names (Dict[str, str]): Result file -> title of its column.
    """
    results = [read(name)["words_per_second"] for name in names]
    keys = [key for key in PEERS if any(key in result for result in results)]
    rows = [[PEERS[key], *(f"{result[key]:,.0f}" if key in result else "" for result in results)] for key in keys]
    return markdown(["words/s", *names.values()], rows)


def ratios(names: Dict[str, str]) -> str:
    """Ratios, their aims, and whether they were reached, of several result files."""
    results = [{(row["ours"], row["peer"]): row for row in read(name)["ratios"]} for name in names]
    pairs = list(dict.fromkeys(pair for result in results for pair in result))
    rows = []
    for ours, peer in pairs:
        measured = [result.get((ours, peer)) for result in results]
        aims = " / ".join(dict.fromkeys(f"{row['bar']:g}" for row in measured if row))
        cells = [(f"{row['ratio']:.2f}" + ("" if row["ok"] else " (missed)")) if row else "" for row in measured]
        rows.append([f"{PEERS[ours]} / {PEERS[peer]}", aims, *cells])
    return markdown(["ratio", "aim", *names.values()], rows)


def peers(names: Dict[str, str]) -> str:
    """Rates and ratios of several result files."""
    return "\n\n".join([rates(names), ratios(names), source(*names)])


def memory() -> str:
    """Growth over a stream, and the memory and time of one long document."""
    result = read("serving/memory")
    titles = {"plain": "fp32, torch", "with an error": "fp32, torch, one document of them fails", "in OpenVINO": "OpenVINO"}
    growth = [
        [titles[key], f"{row['settled_mb']:,.0f}", f"{row['end_mb']:,.0f}", f"{row['growth_mb']:.0f}"]
        for key, row in result["growth"].items()
    ]
    lengths = [
        [f"{width}, {row['tokens']:,} tokens", f"{row['microseconds_a_token']:.1f}", f"{row['bytes_a_token'] / 1000:.1f}"]
        for width, rows in result["lengths"].items()
        for row in rows
    ]
    header = [f"{result['documents']:,} documents through `nlp.pipe`", "MB after 5,000", "MB at the end", "growth, MB (aim: 50)"]
    length_header = ["one document", "microseconds a token", "KB a token"]
    return "\n\n".join([markdown(header, growth), markdown(length_header, lengths), source("serving/memory")])


def throughput() -> str:
    """Speed of continued pretraining."""
    result = read("adapt/throughput")
    rates_by_name = field(result, "subwords_per_second")
    baseline = sorted(field(rates_by_name, "baseline"))
    rows = [["`run_mlm --line_by_line`, padding and full logits", f"{baseline[len(baseline) // 2]:,.0f}", "1", "", ""]]
    for name, row in result["precisions"].items():
        rows.append(
            [f"`mtl adapt`, {name}", f"{field(row, 'subwords_per_second'):,.0f}", f"{field(row, 'over_baseline'):.2f}",
             f"{row['bar']:g}", f"{100 * row['share_of_bound']:.0f}%"]
        )  # fmt: skip
    header = ["", "subwords/s (median)", "ratio", "aim", "of the matrix rate"]
    return markdown(header, rows) + "\n\n" + source("adapt/throughput")


def streaming() -> str:
    """Memory while large texts are read."""
    rows = [
        [f"{row['megabytes']:,} MB of text", f"{row['words']:,}", f"{row['most_resident_mb']:,.0f}",
         f"{row['anonymous_at_end_mb']:,.0f}"]
        for row in read("adapt/streaming")["sizes"]
    ]  # fmt: skip
    header = ["", "words", "most resident, MB", "of the process itself, MB"]
    return markdown(header, rows) + "\n\n" + source("adapt/streaming")


def learned() -> str:
    """What continued pretraining learned: perplexity, and the rank of masked words."""
    result = read("adapt/learned")
    before, after = result["perplexity_before"], result["perplexity_after"]
    perplexity = [[f"perplexity, {text}", f"{before[text]:,.0f}", f"{after[text]:,.0f}"] for text in before]
    words = [
        [f"{first['sentence'].replace('[MASK]', '`[MASK]`')} (*{first['expected']}*)", f"{first['rank']}", f"{last['rank']}"]
        for first, last in zip(result["filled_in"]["before"], result["filled_in"]["after"])
    ]
    return markdown(["", "before", "after"], perplexity + words) + "\n\n" + source("adapt/learned")


def differences(name: str, before: str, after: str) -> str:
    """Mean differences with their intervals, by arm and score, of a result file of `mtl compare`.

    Args:
        name (str): The result file.
        before (str): Key of the reference's score.
        after (str): Key of the arm's score.
    """
    rows = []
    for row in read(name)["differences"]:
        labels = row["label_fraction"] if "label_fraction" in row else row["labels"]
        interval = f"{row['difference']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]"
        title = f"{row['arm']}, {100 * labels:g}% of the labels: {TASKS.get(row['score'], row['score'])}"
        rows.append([title, points(row[before]), points(row[after]), interval, row["verdict"]])
    return markdown(["", before, after, "difference, 95% interval", "verdict"], rows, text=["verdict"]) + "\n\n" + source(name)


def steps() -> str:
    """Seconds a training step."""
    result = read("training/steps")
    rows = []
    for name, seconds in result["seconds_a_step"].items():
        median = sorted(seconds)[len(seconds) // 2]
        title = "bare PyTorch loop" if name == "bare" else f"spacy-mtl, {name}"
        cost = result["cost_over_static"].get(name)
        rows.append([title, f"{median:.2f}", f"{cost:.2f}" if cost else ""])
    return markdown(["", "seconds a step (median)", "cost over static weights"], rows) + "\n\n" + source("training/steps")


def startup() -> str:
    """Start of a process, of a pipeline, and of the first short document."""
    result = read("serving/startup")
    rows = [
        [name, f"{value:.2f}", f"{result['bars'][name]:g}"]
        for name, value in (result["found"] if "found" in result else result["measured"]).items()
    ]
    return markdown(["", "measured", "aim, at most"], rows) + "\n\n" + source("serving/startup")


def batches() -> str:
    """Speed by padded subwords in a forward pass."""
    rows = [[f"{int(size):,}", f"{rate:,.0f}"] for size, rate in read("serving/batches")["words_per_second"].items()]
    return markdown(["padded subwords in a forward pass", "words/s"], rows) + "\n\n" + source("serving/batches")


CPU = {"serving/minilm_biomedical_250": "EPYC", "serving/minilm_biomedical_250_xeon": "Xeon"}
GPU = {"serving/minilm_h200": "MiniLM", "serving/base_h200": "base"}
PLUMBING = {
    "serving/plumbing_biomedical": "biomedical, new documents",
    "serving/plumbing_sample": "sample domain, new documents",
    "serving/plumbing_biomedical_again": "biomedical, met before",
}


def sample_recipe() -> str:
    """Test scores of the sample's pipeline under other batches, rates and encoders."""
    titles = {"cats_accuracy": "categories", "ents_f": "entities", "qa_f1": "questions"}
    rows = [
        [row["variant"], *(points(100 * row["scores"][key]) for key in titles)] for row in read("gain/sample")["runs"]
    ]  # fmt: skip
    return markdown(["training", *titles.values()], rows)


def teacher() -> str:
    """Entities of BC5CDR on some of the labels: a small encoder alone, a large teacher, and the small one taught by it."""
    result = read("gain/teacher")
    rows = []
    for run in result["runs"]:
        for name in ("student alone", "teacher", "student taught", "student taught, with relations"):
            if name in run:
                scores = [f"{100 * run[name][key]:.1f}" for key in ("ents_f", "ents_p", "ents_r", "ents_char_f")]
                rows.append([f"{name}, seed {run['seed']}", *scores, f"{run[name]['minutes']:.0f}"])
    header = [f"{result['documents']} labelled abstracts", "F1", "precision", "recall", "F1 by characters", "minutes"]
    return markdown(header, rows) + "\n\n" + source("gain/teacher")


def recipe() -> str:
    """In-domain perplexity of old and new defaults of `mtl adapt`, at equal minutes."""
    rows = [
        [f"{row['recipe']}, {row['minutes']:g} minutes", f"{row['steps']:,}", f"{row['head_steps']:,}",
         f"{row['tokens_per_second']:,}", points(row["perplexity"])]
        for row in read("gain/recipe")["runs"]
    ]  # fmt: skip
    header = ["", "steps", "of them the head alone", "subwords/s", "perplexity"]
    return markdown(header, rows) + "\n\n" + source("gain/recipe")


def reading() -> str:
    """How fast labelled files are read, converted and checked."""
    result = read("data/reading")
    titles = {
        "read": "read",
        "convert": "convert, all cores",
        "check": "check",
        "conll": "convert 70,000 tokens of CoNLL without bounds",
    }
    rows = [
        [
            titles.get(row["part"], row["part"]),
            f"{row['seconds']:.1f}",
            f"{row['megabytes'] / row['seconds']:.1f}",
            f"{row['peak_mb']:,.0f}",
        ]
        for row in result["parts"]
    ]
    header = [f"{result['documents']:,} documents of {result['words']} words, JSON Lines", "seconds", "MB/s", "peak memory, MB"]
    return markdown(header, rows) + "\n\n" + source("data/reading")


TABLES: Dict[str, Callable[[], str]] = {
    "sample_recipe": sample_recipe,
    "recipe": recipe,
    "teacher": teacher,
    "legal": lambda: differences("gain/legal", "base", "adapted"),
    "twins": twins,
    "precision": lambda: precision("serving/precision_biomedical"),
    "precision-many": lambda: precision("serving/precision_biomedical_xeon_many"),
    "precision-dev": lambda: precision("serving/precision_biomedical_xeon"),
    "precision-gpu": lambda: precision("serving/precision_h200"),
    "peers": lambda: peers(CPU),
    "peers-edsnlp": lambda: peers({"serving/edsnlp_xeon": "Xeon"}),
    "peers-gpu": lambda: peers(GPU),
    "plumbing": lambda: peers(PLUMBING),
    "memory": memory,
    "batches": batches,
    "throughput": throughput,
    "streaming": streaming,
    "learned": learned,
    "adaptation": lambda: differences("adapt/comparison_biomedical", "base", "adapted"),
    "sharing": lambda: differences("training/sharing_biomedical", "alone", "together"),
    "steps": steps,
    "startup": startup,
    "reading": reading,
}


def table(name: str) -> str:
    """A table by its name in `TABLES`."""
    return TABLES[name]()


def result_files() -> List[str]:
    """All result files, by folder and name."""
    return sorted(f"{path.parts[-3]}/{path.stem}" for path in ROOT.glob("*/results/*.json"))


if __name__ == "__main__":
    for key in sys.argv[1:] or TABLES:
        print(f"{key}\n\n{table(key)}\n")
