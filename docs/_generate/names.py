"""Write the reference page of all registered names, from the package's entry points, signatures and docstrings."""

import inspect
import re
import typing
from importlib.metadata import distribution
from typing import Any, Callable, Dict, List, Optional, Tuple

import mkdocs_gen_files
from griffe import Docstring, DocstringSectionKind
from spacy.language import Language

GROUPS = {
    "mtl_tasks": ("Tasks", "What evaluation, sampling, augmentation, packaging and reports ask of a task."),
    "spacy_factories": ("Components", "For `factory` in a section of `[components]`, and for `nlp.add_pipe`."),
    "spacy_architectures": ("Architectures", "For `@architectures` in the model of a component."),
    "spacy_readers": ("Corpus readers", "For `@readers` in `[corpora]`."),
    "spacy_tokenizers": ("Tokenizers", "For `@tokenizers` in `[nlp.tokenizer]`."),
    "spacy_augmenters": ("Augmenters", "For `@augmenters` in `[corpora.train.augmenter]`."),
    "sampling": ("Sampling and order", "For `@misc` in `[corpora.train.sampling]` and `[corpora.train.order]`."),
    "weighting": ("Weightings", "For `@misc` in `[components.transformer.weighting]`."),
    "spacy_misc": ("Loaders and other functions", "For `@misc`."),
    "thinc_optimizers": ("Optimizers", "For `@optimizers` in `[training.optimizer]`."),
    "thinc_schedules": ("Schedules", "For `@schedules`, such as in `[training.optimizer.learn_rate]`."),
    "spacy_loggers": ("Loggers", "For `@loggers` in `[training.logger]`."),
    "spacy_callbacks": ("Callbacks", "For `@callbacks`."),
    "spacy_scorers": ("Scorers", "For `@scorers` in the section of a component."),
}
INTRO = """# Registered names

Every name that a config can use, with its settings and their defaults. This page is generated from the package's entry points.
`python -m spacy init fill-config` writes all defaults into a config.
"""
COMMON = {  # settings that docstrings do not repeat
    "model": "The network.",
    "scorer": "Computes the scores.",
    "beta1": "As in torch.",
    "beta2": "As in torch.",
    "eps": "As in torch.",
    "alpha": "As in torch.",
    "momentum": "As in torch.",
    "*": "One section for each augmenter.",
}
SKIPPED = ("spacy_cli", "console_scripts")


def shelf(group: str, module: str) -> str:
    """The section of the page: functions under `@misc` are split by what they are for."""
    if group == "spacy_misc" and module.startswith("mtl.weighting."):
        return "weighting"
    if group == "spacy_misc" and module.startswith(("mtl.sampling.strategies", "mtl.sampling.order")):
        return "sampling"
    return group


def cell(text: Any) -> str:
    """The text for a cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def type_name(annotation: Any) -> str:
    """A type as a person writes it."""
    if annotation is inspect.Parameter.empty:
        return ""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", None)
    if text is None or typing.get_args(annotation):
        text = str(annotation)
    if text == "Model":
        return "architecture"
    if "Callable" in text:
        return "a function" + (", or null" if text.startswith("Optional") else "")
    text = re.sub(r"\b[a-z_]+(?:\.[a-z_0-9]+)*\.(?=[A-Z])", "", text.replace("typing.", "")).replace("NoneType", "None")
    return re.sub(r"^Optional\[(.+)\]$", r"\1, or null", text)


def default_name(value: Any) -> str:
    """A default as a config writes it."""
    if value is inspect.Parameter.empty:
        return "required"
    if isinstance(value, dict) and any(key.startswith("@") for key in value):
        return f"`{next(v for key, v in value.items() if key.startswith('@'))}`"
    text = {None: "null", True: "true", False: "false"}.get(value) if isinstance(value, (bool, type(None))) else None
    text = text or (f'"{value}"' if isinstance(value, str) else str(value))
    return f"`{text if len(text) < 60 else text[:56] + ' ...'}`"


def sections_of(documented: Any) -> Tuple[str, Dict[str, str], List[Tuple[str, str, str]]]:
    """The text of a docstring, the descriptions of its arguments, and its other sections as (title, type, description)."""
    text, arguments, others = [], {}, []
    docstring = Docstring(inspect.getdoc(documented) or "")
    options = {"warnings": False}
    for section in docstring.parse("google", **options):
        if section.kind is DocstringSectionKind.text:
            text.append(section.value)
        elif section.kind in (DocstringSectionKind.parameters, DocstringSectionKind.other_parameters):
            arguments |= {parameter.name.lstrip("*"): parameter.description for parameter in section.value}
        elif section.kind is DocstringSectionKind.raises:
            others += [("Raises", str(item.annotation), item.description) for item in section.value]
        elif section.kind is DocstringSectionKind.returns:
            others += [("Returns", str(item.annotation or ""), item.description) for item in section.value]
    return "\n\n".join(text), arguments, others


def explained_by(registered: Callable, group: str) -> Optional[Any]:
    """The class or function that a registered function's docstring refers to ("see `Thing`")."""
    match = re.search(r"[Ss]ee `([A-Za-z_]+)`", inspect.getdoc(registered) or "")
    module = inspect.getmodule(registered)
    if match and hasattr(module, match.group(1)):
        return getattr(module, match.group(1))
    return registered() if group == "spacy_scorers" and not match else None


def settings_of(name: str, registered: Callable, group: str) -> List[Tuple[str, str, str]]:
    """(name, type, default) of each setting."""
    if group == "mtl_tasks":
        return []
    parameters = inspect.signature(registered).parameters.values()
    defaults: Dict[str, Any] = Language.get_factory_meta(name).default_config if group == "spacy_factories" else {}
    if group == "spacy_factories":
        defaults = {key: value for key, value in defaults.items() if key not in ("factory",)}
    rows = []
    for parameter in parameters:
        if group == "spacy_factories" and parameter.name in ("nlp", "name"):
            continue
        shown = "*" if parameter.kind is inspect.Parameter.VAR_POSITIONAL else parameter.name
        default = defaults.get(parameter.name, parameter.default)
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            default = None
        rows.append((shown, type_name(parameter.annotation), default_name(default)))
    return rows


def task_table(task: Any) -> str:
    """The scores of a task."""
    rows = [(score, instance) for instance in task.defaults() for score in instance.scores]
    lines = ["| score | in tables |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| `{score.key}` | {cell(score.title)} |" for score, _ in rows)]) if rows else ""


def entry(name: str, registered: Any, group: str) -> str:
    """The part of the page about one name."""
    text, arguments, others = sections_of(registered)
    source = explained_by(registered, group) if group != "mtl_tasks" else None
    if source is not None:
        more, more_arguments, _ = sections_of(source)
        text = more if re.search(r"see `\w+`\.?$", text) else f"{text}\n\n{more}"
        arguments = more_arguments | arguments
    text = without_name(text, name)
    parts = [f"### `{name}` {{ #{anchor(name)} }}", "", text, ""]
    rows = settings_of(name, registered, group)
    if rows:
        parts += ["| setting | type | default | meaning |", "| --- | --- | --- | --- |"]
        for setting, kind, default in rows:
            meaning = arguments.get(setting, "") or COMMON.get(setting, "")
            parts.append(f"| `{setting}` | {cell(kind)} | {cell(default)} | {cell(meaning)} |")
        parts.append("")
    if group == "mtl_tasks":
        titles = ", ".join(dict.fromkeys(instance.title for instance in registered.defaults()))
        parts += [f'Factory: `{registered.factory}`. Reports call its annotation "{titles}".', "", task_table(registered), ""]
    for title, kind, description in others:
        if title == "Raises":
            parts += [f"*Raises* `{kind}`: {cell(description)}", ""]
    return "\n".join(parts)


def without_name(text: str, name: str) -> str:
    """The text without the kind and the name that stand in the heading: "Weighting `mtl.X.v1`: less ..." becomes "Less ..."."""
    rest = re.sub(rf"^(?:\w+ )?`{re.escape(name)}`(?:: |, |\. | (?=\())", "", text)
    return rest[:1].upper() + rest[1:]


def anchor(name: str) -> str:
    """The anchor of a name."""
    return name.lower().replace(".", "-").replace("_", "-")


def page() -> str:
    """The whole page."""
    shelves: Dict[str, List[str]] = {key: [] for key in GROUPS}
    for point in distribution("spacy-mtl").entry_points:
        if point.group in SKIPPED:
            continue
        shelves[shelf(point.group, point.module)].append(entry(point.name, point.load(), point.group))
    parts = [INTRO]
    for key, (title, purpose) in GROUPS.items():
        parts += [f"## {title}", "", purpose, "", *shelves[key]]
    names = {name for group in shelves.values() for part in group for name in re.findall(r"^### `(.+?)`", part)}
    return linked("\n".join(parts), names)


def linked(text: str, names: typing.Set[str]) -> str:
    """The text with links from registered names to their sections, except in headings."""

    def link(match: typing.Match[str]) -> str:
        name = match.group(1)
        return f"[`{name}`](#{anchor(name)})" if "." in name and name in names else match.group(0)

    lines = text.splitlines()
    return "\n".join(line if line.startswith("#") else re.sub(r"(?<!\[)`([\w.]+)`", link, line) for line in lines) + "\n"


with mkdocs_gen_files.open("reference/names.md", "w") as file:
    file.write(page())
