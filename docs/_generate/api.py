"""Write the reference page of the Python API: what `mtl` exports, the task contract, answers, and the Doc extensions."""

import dataclasses
import inspect
import re
from typing import Any, Callable, Iterator

import mkdocs_gen_files

import mtl

INTRO = """# Python API

Everything on this page is public: it changes only with a new version number and a line in the changelog. Other modules are
internal.
"""
CONTRACT = ("Task", "Score", "Change", "ProbeItem", "registered_tasks")
EXTENSIONS = """## On a Doc

The question-answering head installs these extensions; a span classifier adds one to `Span`.

| extension | meaning |
| --- | --- |
| `doc._.ask(question, n=1)` | An `Answer`; a list of the best `n` if `n` is above 1. |
| `doc._.questions` | Set it before the pipeline runs: a list of questions, or `{id: question}`. |
| `doc._.answers` | After the pipeline: `{id: Answer}`. |
| `doc._.score` | Predicted number of a head `mtl_regressor`; the name is its setting `key`. |
| `span._.attributes` | Labels of a span that `mtl_span_classifier` predicted; the name is its setting `key`. |
"""


def exports() -> str:
    """The objects that `mtl` exports, and the dataclasses that its functions take or return."""
    values = [getattr(mtl, name) for name in getattr(mtl, "__all__", ()) if name != "__version__"]
    values = [value for value in values if getattr(value, "__module__", "").startswith("mtl") and not inspect.ismodule(value)]
    for function in filter(inspect.isfunction, list(values)):
        values += [kind for kind in dataclasses_in(function) if kind not in values]
    blocks = [f"::: {value.__module__}.{value.__name__}\n" for value in values]
    return "## `import mtl`\n\n" + "\n".join(blocks) if blocks else ""


def dataclasses_in(function: Callable) -> Iterator[Any]:
    """The dataclasses of spacy-mtl in a function's type hints."""
    module = inspect.getmodule(function)
    names = re.findall(r"\b[A-Z]\w+", " ".join(map(str, inspect.signature(function).parameters.values())))
    for name in names:
        kind = getattr(module, name, None)
        if dataclasses.is_dataclass(kind) and getattr(kind, "__module__", "").startswith("mtl"):
            yield kind


with mkdocs_gen_files.open("reference/api.md", "w") as file:
    exported = exports()
    blocks = [f"::: mtl.registry.{name}\n" for name in CONTRACT if f"mtl.registry.{name}\n" not in exported]
    answer = "" if "qa.answers.Answer\n" in exported else "::: mtl.tasks.qa.answers.Answer\n"
    task = "## Tasks\n\nSee [Add a task](../how-to/add-a-task.md).\n\n" + "\n".join(blocks)
    file.write("\n".join([INTRO, exported, task, EXTENSIONS, answer]))
