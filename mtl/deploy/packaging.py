"""Build the wheels of a trained pipeline. Needs no network."""

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional

import srsly
from packaging.version import InvalidVersion, Version
from thinc.api import Config

from mtl import compat
from mtl.deploy.commands import pip_wheel
from mtl.deploy.own_wheel import own_wheel
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
    """Build the pipeline's wheel, and that of the spacy-mtl it needs.

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
        wheel = pip_wheel(next(sources.iterdir()), out)
    return [wheel, own_wheel(out)]


def _needs_openvino(pipeline: Path) -> bool:
    components = Config().from_disk(pipeline / "config.cfg", interpolate=False)["components"].values()
    models = [section["model"] for section in components if section.get("factory") == "mtl_transformer"]
    return any(model.get("backend") == "openvino" or model.get("precision") == "int8" for model in models)


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
