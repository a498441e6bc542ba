"""Prove that built wheels work: install them into a clean environment, and process a document there."""

import json
import os
import tempfile
import textwrap
import venv
from difflib import SequenceMatcher
from importlib import metadata
from itertools import zip_longest
from pathlib import Path
from typing import Any, Dict, List, Tuple

import spacy
from spacy.tokens import Doc, DocBin
from spacy.vocab import Vocab

from mtl.data.docs import read_docs
from mtl.data.records import Question, Record, Report
from mtl.deploy.commands import install_command, run_command
from mtl.errors import UserError
from mtl.progress import Echo
from mtl.registry import registered_tasks

WIDTH = 100  # of a text in the report

# Runs in the clean environment. Arguments: package, .spacy file with one document, whether that has gold annotation.
CHECK = """
import json, sys, spacy
from spacy.tokens import DocBin
from mtl.registry import heads_of

nlp = spacy.load(sys.argv[1])
reference = next(DocBin().from_disk(sys.argv[2]).get_docs(nlp.vocab))
doc = nlp.make_doc(reference.text)
heads = {name: head.task for name, head in heads_of(nlp).items() if not head.task.is_auxiliary}
for task in heads.values():
    task.copy_inputs(reference, doc)
doc = nlp(doc)
result = {"pipeline": nlp.meta["lang"] + "_" + nlp.meta["name"], "version": nlp.meta["version"], "components": nlp.pipe_names,
         "text": doc.text, "heads": {}}
for name, task in heads.items():
    has_gold = sys.argv[3] == "gold" and task.is_annotated(reference)
    result["heads"][name] = {"title": task.title, "predicted": task.show(doc, name),
                            "gold": task.show_gold(reference) if has_gold else None}
print(json.dumps(result))
"""


def verify_wheels(packages: Path, document: Doc, has_gold: bool, echo: Echo) -> Dict[str, Any]:
    """Install the pipeline that was built last into a new environment, and process a document there.

    spacy-mtl comes from its wheel, other packages from the index in the versions of this environment, so that what is verified
    is what was trained.

    Args:
        packages (Path): The folder with the wheels.
        document (Doc): What to process, with its questions and gold annotation, if any.
        has_gold (bool): Whether to show the gold annotation.
        echo (Echo): Gets messages.

    Returns:
        Dict[str, Any]: "pipeline", "version", "components", "text", and "heads": by name "title", "predicted" and "gold" lines.

    Raises:
        UserError: There are no wheels, they cannot be installed, or the pipeline does not load or run there.
    """
    built = sorted(packages.glob("*.whl"), key=lambda wheel: wheel.stat().st_mtime)
    pipelines = [wheel for wheel in built if not wheel.name.startswith("spacy_mtl-")][-1:]
    if not pipelines:
        raise UserError(f"{packages}: no wheel of a pipeline there; run `mtl package`")
    own = [wheel for wheel in built if wheel.name.startswith("spacy_mtl-")][-1:]
    if not own:
        raise UserError(f"{packages}: no wheel of spacy-mtl there, which {pipelines[0].name} needs; run `mtl package` again")
    wheels = pipelines + own
    with tempfile.TemporaryDirectory(prefix="mtl-verify-") as work:
        echo(f"in a clean environment: {install_command(wheels)}")
        venv.create(Path(work) / "venv", with_pip=True)
        python = Path(work) / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
        constraints = Path(work) / "constraints.txt"
        constraints.write_text("".join(f"{line}\n" for line in _installed_versions()), encoding="utf-8")
        install = ["-m", "pip", "--disable-pip-version-check", "install", "-q", "--constraint", str(constraints)]
        run_command([str(python), *install, *map(str, wheels)], "the wheels could not be installed")
        name = pipelines[0].name.split("-")[0]
        echo(f"loading {name} there, without access to this project ...")
        file = Path(work) / "document.spacy"
        DocBin(docs=[document]).to_disk(file)
        isolated = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {"HF_HUB_OFFLINE": "1"}
        command = [str(python), "-I", "-c", CHECK, name, str(file), "gold" if has_gold else ""]
        output = run_command(command, "the installed pipeline failed", cwd=work, env=isolated)
    return json.loads(output.strip().splitlines()[-1])


def pick_document(data: Path, number: int) -> Doc:
    """A document of a `.spacy` file or folder, counted from 1.

    Raises:
        UserError: There are not that many.
    """
    docs = list(read_docs(data, Vocab()))
    if not 1 <= number <= len(docs):
        raise UserError(f"--document {number}: {data} has {len(docs)} documents; allowed: 1 to {len(docs)}")
    return docs[number - 1]


def document_of(text: str, question: str = "") -> Doc:
    """A document with the text and, if there is one, a question."""
    doc = spacy.blank("xx").make_doc(text)
    record = Record(text, "--question", questions=[Question("q1", question, [])] if question else None)
    for task in registered_tasks():
        task.annotate(doc, record, Report())
    return doc


def verification_report(result: Dict[str, Any]) -> str:
    """What each head predicted, beside the gold annotation if there is any."""
    text = textwrap.fill(result["text"], WIDTH, initial_indent="    ", subsequent_indent="    ")
    lines = [f"{result['pipeline']} {result['version']}, installed, on this document:", "", text, ""]
    for head in result["heads"].values():
        predicted, gold = head["predicted"] or ["(none)"], head["gold"]
        width = max(len(line) for line in [*predicted, head["title"]]) + 4
        lines.append(f"  {head['title']:{width}}  {'gold' if gold is not None else ''}".rstrip())
        for left, right in aligned_rows(predicted, predicted if gold is None else gold or ["(none)"]):
            lines.append(f"    {left:{width}}{right if gold is not None else ''}".rstrip())
        lines.append("")
    return "\n".join(lines).rstrip()


def aligned_rows(predicted: List[str], gold: List[str]) -> List[Tuple[str, str]]:
    """Rows of predicted and gold lines, equal ones side by side; in order if none are equal."""
    if not set(predicted) & set(gold):
        return list(zip_longest(predicted, gold, fillvalue=""))
    rows: List[Tuple[str, str]] = []
    for kind, a, b, c, d in SequenceMatcher(None, predicted, gold, autojunk=False).get_opcodes():
        if kind == "equal":
            rows += zip(predicted[a:b], gold[c:d])
        else:
            rows += [(line, "") for line in predicted[a:b]] + [("", line) for line in gold[c:d]]
    return rows


def _installed_versions() -> List[str]:
    """The versions of this environment as constraints for pip, without what was installed from a local file."""
    return sorted(
        f"{dist.metadata['Name']}=={dist.version.split('+')[0]}"
        for dist in metadata.distributions()
        if dist.metadata["Name"] and dist.read_text("direct_url.json") is None and dist.metadata["Name"] != "pip"
    )
