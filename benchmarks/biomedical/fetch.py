"""Put the public files where the project expects them: copied from a mirror, or derived from the downloaded assets.

    MTL_DATA=/path/to/mirror python benchmarks/biomedical/fetch.py assets

With MTL_DATA the files are copied. Without it, BC5CDR must have been downloaded (`python -m spacy project assets`), and the three
other sets are derived from a checkout of https://github.com/jayded/evidence-inference (commit b9831b6), Evidence Inference 2.0,
at assets/evidence-inference. Each function describes how.
"""

import csv
import json
import os
import re
import shutil
import sys
from collections import defaultdict
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

FILES = {
    "ner": ("biomedical/ner_bc5cdr/CDR_TrainingSet.PubTator.txt", "biomedical/ner_bc5cdr/CDR_DevelopmentSet.PubTator.txt"),
    "roles": (
        "biomedical/textcat_abstract_roles/abstract_roles_train.jsonl",
        "biomedical/textcat_abstract_roles/abstract_roles_validation.jsonl",
    ),
    "qa": (
        "biomedical/qa_evidence_inference/squad_sections_train.json",
        "biomedical/qa_evidence_inference/squad_sections_validation.json",
    ),
    "raw": ("biomedical/raw/pmc_rct_train_articles.txt",),
}
SECTION = re.compile(r"^(TITLE|ABSTRACT|BODY)(\.[^:\n]*)?:[ \t]*", re.MULTILINE)
ROLES = {  # role -> words in a heading that stand for it; headings for two roles are left out
    "BACKGROUND": ("background", "introduction", "context", "rationale"),
    "OBJECTIVE": ("objective", "aim", "purpose", "goal", "hypothesis"),
    "METHODS": ("method", "design", "setting", "patients", "participants", "intervention", "measure", "subjects", "procedure"),
    "RESULTS": ("result", "finding", "outcome"),
    "CONCLUSIONS": ("conclusion", "interpretation", "discussion", "significance", "implication"),
}


def main(target: str) -> None:
    out, mirror = Path(target), os.environ.get("MTL_DATA")
    names = [name for group in FILES.values() for name in group]
    if mirror:
        for name in names:
            if not (Path(mirror) / name).exists():
                sys.exit(f"error: MTL_DATA: {name} is not in {mirror}")
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(mirror) / name, out / name)
        return
    if not (out / FILES["ner"][0]).exists():
        sys.exit("error: set MTL_DATA to a folder with the public files, or run `python -m spacy project assets` first")
    derive(out / "evidence-inference" / "annotations", out)


def derive(annotations: Path, out: Path) -> None:
    """Make both splits of the sets from the files and splits of Evidence Inference."""
    if not annotations.exists():
        sys.exit(f"error: {annotations} is missing: clone https://github.com/jayded/evidence-inference to {annotations.parent}")
    prompts = {row["PromptID"]: row for row in read_csv(annotations / "prompts_merged.csv")}
    evidence = defaultdict(list)
    for row in read_csv(annotations / "v2_annotations.csv"):
        if row["Valid Label"] == "True" and row["Valid Reasoning"] == "True":
            evidence[row["PMCID"]].append(row)
    for split, place in (("train", 0), ("validation", 1)):
        ids = (annotations / "splits" / f"{split}_article_ids.txt").read_text().split()
        articles = {id: (annotations / "txt_files" / f"PMC{id}.txt").read_text(encoding="utf-8") for id in ids}
        write_lines(out / FILES["roles"][place], (json.dumps(row, ensure_ascii=False) for row in roles(articles)))
        squad = {"version": "evidence-inference-2.0", "data": list(questions(articles, evidence, prompts))}
        write_lines(out / FILES["qa"][place], [json.dumps(squad, ensure_ascii=False)])
        if split == "train":
            write_lines(out / FILES["raw"][0], raw({id: text for id, text in articles.items() if id not in evidence}))


def read_csv(path: Path) -> List[Dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_lines(path: Path, lines) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def sections(text: str) -> Iterator[Tuple[str, str, int]]:
    """The sections of an article: name, such as ABSTRACT.METHODS; body; the character where the body starts."""
    marks = list(SECTION.finditer(text))
    for mark, following in zip(marks, [*marks[1:], None]):
        end = following.start() if following else len(text)
        yield mark.group(0).rstrip(" \t").rstrip(":"), text[mark.end() : end], mark.end()


def role_of(heading: str) -> Optional[str]:
    """The role that an abstract's heading stands for; None if there is none or more than one."""
    matches = [role for role, words in ROLES.items() if any(word in heading.lower() for word in words)]
    return matches[0] if len(matches) == 1 else None


def roles(articles: Dict[str, str]) -> Iterator[Dict[str, str]]:
    """Paragraphs of structured abstracts with the role of their heading.

    Of 20 to 3,000 characters with white space folded, from articles with at least three roles, without repetitions.
    """
    seen = set()
    for id, text in articles.items():
        rows = []
        for name, body, _ in sections(text):
            heading = name.partition(".")[2]
            role, folded = role_of(heading), " ".join(body.split())
            if name.startswith("ABSTRACT.") and role and 20 <= len(folded) <= 3000:
                rows.append({"pmcid": f"PMC{id}", "heading": heading, "label": role, "text": folded})
        if len({row["label"] for row in rows}) >= 3:
            for row in rows:
                if row["text"] not in seen:
                    seen.add(row["text"])
                    yield row


def questions(articles: Dict[str, str], evidence: Dict[str, List[dict]], prompts: Dict[str, dict]) -> Iterator[dict]:
    """A SQuAD article for each article. Contexts are sections that contain whole evidence spans; prompts become questions."""
    for id, text in articles.items():
        paragraphs = []
        for name, body, start in sections(text):
            context = body.rstrip()
            qas: Dict[str, dict] = {}
            for row in evidence.get(id, ()):
                low, high = int(row["Evidence Start"]) - start, int(row["Evidence End"]) - start
                if 0 <= low < high <= len(context):
                    prompt = prompts[row["PromptID"]]
                    qa = qas.setdefault(
                        row["PromptID"], {"id": f"EI-{row['PromptID']}", "question": question(prompt), "answers": []}
                    )
                    answer = {"text": context[low:high], "answer_start": low}
                    if answer not in qa["answers"]:
                        qa["answers"].append(answer)
            if qas:
                paragraphs.append({"section": name, "context": context, "qas": list(qas.values())})
        if paragraphs:
            yield {"title": f"PMC{id}", "paragraphs": paragraphs}


def question(prompt: Dict[str, str]) -> str:
    """A prompt as a question."""
    return (
        f"With respect to {prompt['Outcome']}, characterize the reported difference between patients receiving "
        f"{prompt['Intervention']} and those receiving {prompt['Comparator']}."
    )


def raw(articles: Dict[str, str]) -> Iterator[str]:
    """Running text of articles without questions: lines of at least 80 characters, of which three quarters are letters."""
    for text in articles.values():
        lines = [line.strip() for _, body, _ in sections(text) for line in body.splitlines()]
        running = [line for line in lines if len(line) >= 80 and letter_fraction(line) >= 0.75]
        if running:
            yield "\n".join([*running, ""])


def letter_fraction(line: str) -> float:
    """The fraction of letters among the characters other than spaces."""
    return sum(map(str.isalpha, line)) / len(line.replace(" ", ""))


if __name__ == "__main__":
    main(*sys.argv[1:])
