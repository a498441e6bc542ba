"""Which room may know which (see docs/explanation/layout.md), and that files, classes and functions stay readable."""

import ast
from pathlib import Path
from typing import Dict, Iterator, List, Set

import pytest
from conftest import ROOT

PACKAGE = ROOT / "mtl"
# From top to bottom: a room may import from those below it, never from those above.
LAYERS = ["cli", "compare", "deploy", "training", "adaptation", "augment", "sampling", "tasks", "encoder", "weighting", "data"]
ENCODER_LAYERS = ["model", "runtime", "pretrained"]  # below what lies directly in mtl/encoder, which is spaCy's part
NO_SPACY = ["encoder/model", "encoder/runtime", "encoder/pretrained", "weighting", "sampling/strategies.py", "sampling/order.py",
            "encoder/batch.py", "encoder/update.py", "encoder/vector_cache.py", "distributed.py", "checkpoints.py", "timing.py",
            "optimization.py", "files.py", "errors.py", "data/records.py", "adaptation/trainer.py", "adaptation/batches.py",
            "compare/differences.py", *(f"tasks/{name}/module.py" for name in
            ("textcat", "ner", "qa", "regressor", "tagger", "masked_lm", "relations", "span_classifier")),
            "tasks/loss.py", "tasks/pooling.py", "tasks/qa/metrics.py", "tasks/span_classifier/metrics.py"]  # fmt: skip
NO_TORCH = ["registry.py", "data", "augment/rewrite.py", "sampling/strategies.py", "sampling/order.py",
            *(str(file.relative_to(PACKAGE)) for file in (PACKAGE / "tasks").glob("*/task.py"))]  # fmt: skip
MAX_FILE, MAX_CLASS, MAX_FUNCTION = 350, 200, 60
FILES = sorted(PACKAGE.rglob("*.py"))


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(file: Path, at_load: bool = False) -> Iterator[str]:
    """The modules that a file imports, but for type checkers. at_load: only those that are imported with it."""

    def walk(nodes: List[ast.stmt]) -> Iterator[str]:
        for node in nodes:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module or ""
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                continue
            elif not (at_load and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))):
                for name in ("body", "orelse", "finalbody", "handlers"):
                    yield from walk(getattr(node, name, []))

    yield from walk(ast.parse(file.read_text()).body)


def room(name: str) -> str:
    """The room of a module: "tasks"; "" for what lies directly in mtl/ and is below all rooms."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LAYERS else ""


def rank(name: str) -> int:
    """How far down a module lies."""
    if name in ("mtl", "mtl.__main__", "mtl.api"):
        return -1  # the public API and `python -m mtl` may use everything
    if room(name) == "encoder":
        folder = name.split(".")[2] if name.count(".") > 1 else ""
        inner = ENCODER_LAYERS.index(folder) + 1 if folder in ENCODER_LAYERS else 0
        return 10 * LAYERS.index("encoder") + inner
    return 10 * LAYERS.index(room(name)) if room(name) else 1000


def test_every_folder_is_a_room():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(LAYERS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_down(file):
    importer = module_name(file)
    for name in imports(file):
        if name == "mtl" or name.startswith("mtl."):
            target = name if (ROOT / (name.replace(".", "/") + ".py")).exists() else name.rpartition(".")[0] or name
            if (target != "mtl" and room(target) != room(importer)) or room(importer) == "encoder":
                assert target == "mtl" or rank(target) >= rank(importer), f"{importer} imports {name}, which lies above it"


def test_no_circle_of_imports():
    names = {module_name(file): file for file in FILES}
    graph: Dict[str, Set[str]] = {
        name: {target for target in imports(file, at_load=True) if target in names and target not in (name, "mtl")}
        for name, file in names.items()
    }
    done: Set[str] = set()

    def visit(name: str, path: List[str]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for target in sorted(graph[name]):
                visit(target, [*path, name])
            done.add(name)

    for name in sorted(graph):
        visit(name, [])


def files_at(places: List[str]) -> List[Path]:
    paths = [PACKAGE / place for place in places]
    assert all(path.exists() for path in paths), [str(path) for path in paths if not path.exists()]
    return [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]


def test_what_is_pure_torch_imports_no_spacy():
    for file in files_at(NO_SPACY):
        used = [name for name in imports(file) if name.split(".")[0] in ("spacy", "thinc", "spacy_transformers")]
        assert not used, f"{file.relative_to(ROOT)} imports {used}"


def test_what_every_command_needs_imports_no_torch():
    for file in files_at(NO_TORCH):
        used = [name for name in imports(file, at_load=True) if name.split(".")[0] in ("torch", "transformers")]
        assert not used, f"{file.relative_to(ROOT)} imports {used}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_files_classes_and_functions_fit_a_screen_or_say_why(file):
    """A longer one has a comment in it that begins with "Long:"."""
    source = file.read_text()
    lines = source.splitlines()
    assert len(lines) <= MAX_FILE or "# Long:" in source, f"{len(lines)} lines"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            size = node.end_lineno - node.lineno + 1
            limit = MAX_CLASS if isinstance(node, ast.ClassDef) else MAX_FUNCTION
            text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            assert size <= limit or "# Long:" in text, f"{node.name}: {size} lines, at most {limit}"


def test_no_two_public_classes_share_a_name():
    places: Dict[str, List[str]] = {}
    for file in FILES:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(file.relative_to(ROOT)))
    assert not {name: files for name, files in places.items() if len(files) > 1}
