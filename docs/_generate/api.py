"""Write the reference page of the Python API: what `mtl` exports, the task contract, answers, and the Doc extensions."""

import importlib
import inspect

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
    """The objects that `mtl` exports."""
    names = [name for name in getattr(mtl, "__all__", ()) if name != "__version__"]
    blocks = []
    for name in names:
        value = getattr(mtl, name)
        module = getattr(value, "__module__", None)
        if inspect.ismodule(value) or module is None or not module.startswith("mtl"):
            continue
        if hasattr(importlib.import_module(module), value.__name__):
            blocks.append(f"::: {module}.{value.__name__}\n")
    return "## `import mtl`\n\n" + "\n".join(blocks) if blocks else ""


with mkdocs_gen_files.open("reference/api.md", "w") as file:
    exported = exports()
    blocks = [f"::: mtl.registry.{name}\n" for name in CONTRACT if f"mtl.registry.{name}\n" not in exported]
    answer = "" if "qa.answers.Answer\n" in exported else "::: mtl.tasks.qa.answers.Answer\n"
    task = "## Tasks\n\nSee [Add a task](../how-to/add-a-task.md).\n\n" + "\n".join(blocks)
    file.write("\n".join([INTRO, exported, task, EXTENSIONS, answer]))
