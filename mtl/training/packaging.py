"""From a trained pipeline to installed wheels: build, and prove by installing them elsewhere."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import srsly
from packaging.version import InvalidVersion, Version
from spacy.cli.package import package as spacy_package
from thinc.api import Config

from mtl.encoder.openvino_model import REQUIREMENT
from mtl.errors import UserError
from mtl.files import read_json
from mtl.training.evaluation import table

README = """# {name}

A spaCy pipeline trained with spacy-mtl: one shared transformer ({parameters:.1f} M parameters), and {heads}.

    import spacy
    nlp = spacy.load("{name}")
    doc = nlp(text)
{usage}
## Scores

{scores}

## Labels

{labels}
"""
USAGE = {
    "mtl_textcat": "    doc.cats                      # {category: score}",
    "mtl_ner": '    doc.ents                      # doc.spans["ner"].attrs["scores"] has the probability of each',
    "mtl_qa": '    doc._.ask("Which part?").text  # "" where the text does not answer',
}

CHECK = """
import json, sys, spacy
nlp = spacy.load(sys.argv[1])
doc = nlp(sys.argv[2])
found = {"pipeline": nlp.meta["lang"] + "_" + nlp.meta["name"], "version": nlp.meta["version"], "components": nlp.pipe_names,
         "cats": {k: round(v, 4) for k, v in doc.cats.items()}, "ents": [[e.text, e.label_] for e in doc.ents]}
if sys.argv[3]:
    answer = doc._.ask(sys.argv[3])
    found |= {"question": sys.argv[3], "answer": answer.text, "score": round(answer.score, 4)}
print(json.dumps(found))
"""


def build_wheels(pipeline: Path, out: Path, name: str, version: str, metrics: Optional[Path] = None) -> List[Path]:
    """Build the pipeline's wheel, and spacy-mtl's own where it runs from its sources, into `out`. RETURNS their paths.

    RAISES (UserError): `pipeline` is no pipeline folder.
    """
    for file in ("config.cfg", "meta.json"):
        if not (pipeline / file).exists():
            raise UserError(f"{pipeline}: no pipeline there ({file} is missing); train one first")
    if not re.fullmatch(r"[a-zA-Z]\w*", name):
        raise UserError(f"--name {name!r}: a package's name has letters, digits and '_' only, and begins with a letter")
    try:
        Version(version)
    except InvalidVersion:
        raise UserError(f"--version {version!r} is no version; it looks like 1.0.0") from None
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
        spacy_package(source, sources, name=name, version=version, create_sdist=False, create_wheel=False, silent=True)
        wheel = _pip_wheel(next(sources.iterdir()), out)
    own = _own_wheel(out)
    return [wheel] if own is None else [wheel, own]


def _needs_openvino(pipeline: Path) -> bool:
    components = Config().from_disk(pipeline / "config.cfg", interpolate=False)["components"].values()
    settings = [part["model"] for part in components if part.get("factory") == "mtl_transformer"]
    return any(own.get("backend") == "openvino" or own.get("precision") == "int8" for own in settings)


def _own_wheel(out: Path) -> Optional[Path]:
    """spacy-mtl's wheel where it runs from its sources; None where it was installed from a wheel, which then is to be had."""
    root = Path(__file__).resolve().parents[2]
    if (root / "pyproject.toml").exists():
        with tempfile.TemporaryDirectory(prefix="mtl-own-") as work:
            for entry in ("pyproject.toml", "README.md", "LICENSE", "mtl"):
                if (root / entry).is_dir():
                    shutil.copytree(root / entry, Path(work) / entry, ignore=shutil.ignore_patterns("__pycache__"))
                elif (root / entry).exists():
                    shutil.copy(root / entry, work)
            return _pip_wheel(Path(work), out)
    return None


def _pip_wheel(source: Path, out: Path) -> Path:
    with tempfile.TemporaryDirectory(prefix="mtl-wheel-") as fresh:
        command = ["wheel", str(source), "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", fresh]
        _run([sys.executable, "-m", "pip", "--disable-pip-version-check", *command], "the wheel could not be built")
        wheel = next(Path(fresh).glob("*.whl"))
        shutil.move(str(wheel), out / wheel.name)
    return out / wheel.name


def _readme(meta: Dict[str, Any], source: Path, metrics: Optional[Path]) -> str:
    from spacy.util import load_config

    components = load_config(source / "config.cfg")["components"]
    factories = {name: components[name]["factory"] for name in meta["pipeline"] if name in components}
    weights = source / "transformer" / "encoder" / "model.safetensors"
    labels = "\n".join(f"- {head}: {', '.join(map(str, own))}" for head, own in meta["labels"].items() if own)
    scores = table(read_metrics(metrics)) if metrics else "Not measured."
    return README.format(
        name=f"{meta['lang']}_{meta['name']}",
        parameters=weights.stat().st_size / 4e6 if weights.exists() else 0,
        heads=", ".join(name for name, factory in factories.items() if factory != "mtl_transformer"),
        usage="\n".join(USAGE[factory] for factory in factories.values() if factory in USAGE) + "\n",
        scores="\n".join("    " + line for line in scores.splitlines()),
        labels=labels or "None.",
    )


def read_metrics(path: Path) -> Dict[str, Any]:
    """What `mtl evaluate --out` wrote. RAISES (UserError): it is something else."""
    result = read_json(path)
    if not isinstance(result, dict) or not result.get("scores"):
        raise UserError(f"{path}: holds no scores; write them with `mtl evaluate --out {path}`")
    return result


def verify_wheels(packages: Path, text: str, question: str, echo: Callable[[str], None]) -> Dict[str, Any]:
    """Install the pipeline built last in `packages` into a new environment of its own, and process `text` there.

    spacy-mtl comes from its wheel where that is there, other packages from the index in the versions of this environment, so
    that what is proved is what was trained.
    RAISES (UserError): no wheels; they cannot be installed; the pipeline does not load or run there.
    """
    built = sorted(packages.glob("*.whl"), key=lambda wheel: wheel.stat().st_mtime)
    pipelines = [wheel for wheel in built if not wheel.name.startswith("spacy_mtl-")][-1:]
    if not pipelines:
        raise UserError(f"{packages}: no pipeline's wheel there; run `mtl package`")
    wheels = pipelines + [wheel for wheel in built if wheel.name.startswith("spacy_mtl-")][-1:]
    with tempfile.TemporaryDirectory(prefix="mtl-verify-") as work:
        echo(f"installing {', '.join(wheel.name for wheel in wheels)} into a clean environment ...")
        venv.create(Path(work) / "venv", with_pip=True)
        python = Path(work) / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
        constraints = Path(work) / "constraints.txt"
        constraints.write_text("".join(f"{line}\n" for line in _installed()), encoding="utf-8")
        install = ["-m", "pip", "--disable-pip-version-check", "install", "-q", "--constraint", str(constraints)]
        _run([str(python), *install, *map(str, wheels)], "the wheels could not be installed")
        name = pipelines[0].name.split("-")[0]
        echo(f"loading {name} there, with no access to this project ...")
        isolated = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {"HF_HUB_OFFLINE": "1"}
        shown = _run(
            [str(python), "-I", "-c", CHECK, name, text, question], "the installed pipeline failed", cwd=work, env=isolated
        )
    return json.loads(shown.strip().splitlines()[-1])


def _installed() -> List[str]:
    """The versions of this environment, for pip's constraints; what is installed from a local file is left out."""
    return sorted(
        f"{dist.metadata['Name']}=={dist.version.split('+')[0]}"
        for dist in metadata.distributions()
        if dist.metadata["Name"] and dist.read_text("direct_url.json") is None and dist.metadata["Name"] != "pip"
    )


def _run(command: List[str], failure: str, **kwargs: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, **kwargs)
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise UserError(f"{failure}:\n{last}")
    return done.stdout
