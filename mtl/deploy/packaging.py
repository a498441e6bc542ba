"""Build the wheels of a trained pipeline. Needs no network."""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional

import srsly
from packaging.version import InvalidVersion, Version
from thinc.api import Config

from mtl import compat
from mtl.encoder.runtime.openvino_model import REQUIREMENT
from mtl.errors import UserError
from mtl.files import read_json
from mtl.registry import task_types
from mtl.training.evaluation import score_table

README = """# {name}

A spaCy pipeline trained with spacy-mtl: one shared transformer ({parameters:.1f} M parameters) with {heads}.

    import spacy

    nlp = spacy.load("{name}")
    doc = nlp(text)
{usage}
## Scores

{scores}

## Labels

{labels}
"""


def build_wheels(pipeline: Path, out: Path, name: str, version: str, metrics: Optional[Path] = None) -> List[Path]:
    """Build the pipeline's wheel, and that of spacy-mtl if it runs from its sources.

    Args:
        pipeline (Path): The folder of a trained pipeline.
        out (Path): Where the wheels go.
        name (str): The package's name, without the language.
        version (str): The package's version.
        metrics (Optional[Path]): Scores that `mtl evaluate --out` wrote, for the package's README.

    Returns:
        List[Path]: The wheels, that of the pipeline first.

    Raises:
        UserError: There is no pipeline, or the name or version is invalid.
    """
    for file in ("config.cfg", "meta.json"):
        if not (pipeline / file).exists():
            raise UserError(f"{pipeline}: no pipeline there ({file} is missing); train one first")
    if not re.fullmatch(r"[a-zA-Z]\w*", name):
        raise UserError(f"--name {name!r}: the name of a package starts with a letter and has only letters, digits and '_'")
    try:
        Version(version)
    except InvalidVersion:
        raise UserError(f"--version {version!r} is not a version such as 1.0.0") from None
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mtl-package-") as work:
        source = Path(work) / "pipeline"
        shutil.copytree(pipeline, source)
        meta = srsly.read_json(source / "meta.json")
        meta |= {"name": name, "version": version}
        if _needs_openvino(source):
            meta["requirements"] = sorted({*meta.get("requirements", []), REQUIREMENT})
        srsly.write_json(source / "meta.json", meta)
        (source / "README.md").write_text(_readme(meta, source, metrics), encoding="utf-8")
        sources = Path(work) / "sources"
        sources.mkdir()
        compat.package_pipeline(source, sources, name=name, version=version, create_sdist=False, create_wheel=False, silent=True)
        wheel = _pip_wheel(next(sources.iterdir()), out)
    own_wheel = _spacy_mtl_wheel(out)
    return [wheel] if own_wheel is None else [wheel, own_wheel]


def _needs_openvino(pipeline: Path) -> bool:
    components = Config().from_disk(pipeline / "config.cfg", interpolate=False)["components"].values()
    models = [section["model"] for section in components if section.get("factory") == "mtl_transformer"]
    return any(model.get("backend") == "openvino" or model.get("precision") == "int8" for model in models)


def _spacy_mtl_wheel(out: Path) -> Optional[Path]:
    """The wheel of spacy-mtl itself. None if it was installed from a wheel, which can then be had where that came from."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "pyproject.toml").exists():
        return None
    with tempfile.TemporaryDirectory(prefix="mtl-own-") as work:
        for entry in ("pyproject.toml", "README.md", "LICENSE", "mtl"):
            if (root / entry).is_dir():
                shutil.copytree(root / entry, Path(work) / entry, ignore=shutil.ignore_patterns("__pycache__"))
            elif (root / entry).exists():
                shutil.copy(root / entry, work)
        return _pip_wheel(Path(work), out)


def _pip_wheel(source: Path, out: Path) -> Path:
    with tempfile.TemporaryDirectory(prefix="mtl-wheel-") as fresh:
        command = ["wheel", str(source), "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", fresh]
        run_command([sys.executable, "-m", "pip", "--disable-pip-version-check", *command], "the wheel could not be built")
        wheel = next(Path(fresh).glob("*.whl"))
        shutil.move(str(wheel), out / wheel.name)
    return out / wheel.name


def _readme(meta: Dict[str, Any], source: Path, metrics: Optional[Path]) -> str:
    from spacy.util import load_config

    tasks = {task.factory: task for task in task_types()}
    components = load_config(source / "config.cfg")["components"]
    factories = {name: components[name]["factory"] for name in meta["pipeline"] if name in components}
    heads = {name: tasks[factory].from_settings(components[name]) for name, factory in factories.items() if factory in tasks}
    usage = [f"    {line}" for name, task in heads.items() if (line := task.usage(name))]
    weights = source / "transformer" / "encoder" / "model.safetensors"
    labels = "\n".join(f"- {head}: {', '.join(map(str, names))}" for head, names in meta["labels"].items() if names)
    scores = score_table(read_metrics(metrics)) if metrics else "Not measured."
    return README.format(
        name=f"{meta['lang']}_{meta['name']}",
        parameters=weights.stat().st_size / 4e6 if weights.exists() else 0,
        heads=", ".join(name for name, factory in factories.items() if factory != "mtl_transformer"),
        usage="\n".join(usage) + "\n",
        scores="\n".join("    " + line for line in scores.splitlines()),
        labels=labels or "None.",
    )


def read_metrics(path: Path) -> Dict[str, Any]:
    """Read what `mtl evaluate --out` wrote.

    Raises:
        UserError: It is something else.
    """
    result = read_json(path)
    if not isinstance(result, dict) or not result.get("scores"):
        raise UserError(f"{path}: holds no scores; write them with `mtl evaluate --out {path}`")
    return result


def run_command(command: List[str], failure: str, **kwargs: Any) -> str:
    """Run a command and return its output.

    Raises:
        UserError: It fails; the message has the end of its output.
    """
    done = subprocess.run(command, capture_output=True, text=True, **kwargs)
    if done.returncode:
        last_lines = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise UserError(f"{failure}:\n{last_lines}")
    return done.stdout
