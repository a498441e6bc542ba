"""`mtl init`: a project that runs as it stands, tuned to labelled files."""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from spacy.language import Language
from spacy.tokens import Doc
from spacy.util import load_model
from transformers import AutoModel

from mtl.data.check.findings import ERROR, worst
from mtl.data.check.run import check_documents
from mtl.data.formats.reading import Reading
from mtl.data.formats.rows import HUB
from mtl.data.labelled import Labelled, read_labelled
from mtl.data.records import Report
from mtl.encoder.pretrained.architecture import max_length
from mtl.encoder.pretrained.sources import load_pretrained, load_tokenizer
from mtl.encoder.runtime.device import faster_in_bf16, pick_device
from mtl.errors import UserError
from mtl.files import replacing
from mtl.registry import registered_tasks
from mtl.sampling.corpus import words_to_encode
from mtl.training.estimate import training_words_per_second
from mtl.training.templates import config_text, project_text, readme_text

SOURCED = "encoder"  # where the encoder of another pipeline is copied to
ENCODER = Path("transformer") / "encoder"  # where a saved pipeline has it
WINDOWS = (128, 256, 384, 512)
SAMPLED = 500  # documents whose subwords are counted
COVERED = 0.95  # of the documents fit in the window
RATE_WIDTH = 384  # the width that the rates below are for; a wider encoder gets lower ones
# Most words to encode in an epoch -> words in a step, epochs, learning rate. The sample's recipe, and that of the biomedical
# benchmark: see docs/benchmarks.md.
RECIPES: Tuple[Tuple[float, int, int, float], ...] = (
    (150_000, 350, 6, 1.5e-4), (500_000, 1000, 6, 3e-4), (float("inf"), 2000, 3, 3e-4),
)  # fmt: skip
MIN_STEPS = 200


@dataclass
class Project:
    """What a project is made of.

    Args:
        folder (Path): Where to write it.
        train (List[Path]): Labelled training files, one with all tasks or one for each.
        dev (List[Path]): Dev files in the same order; without any, all files are split.
        test (List[Path]): Test files in the same order; without any, the dev files are scored on.
        text (List[Path]): Domain text to adapt on; without any, the encoder is used as it comes.
        encoder (str): A Hugging Face folder or a name on the hub.
        lang (str): The language code.
        name (str): Name of the pipeline's package.
        reading (Reading): How to read the files.
        source (str): A trained pipeline whose encoder to go on from; empty for none.
        accepts_errors (bool): Write it even if the data has errors, and convert it without a check.
    """

    folder: Path
    train: List[Path]
    dev: List[Path] = field(default_factory=list)
    test: List[Path] = field(default_factory=list)
    text: List[Path] = field(default_factory=list)
    encoder: str = "sentence-transformers/all-MiniLM-L6-v2"
    lang: str = "en"
    name: str = "domain"
    reading: Reading = field(default_factory=Reading)
    accepts_errors: bool = False
    source: str = ""

    def check(self) -> None:
        """Check what can be checked without reading the files.

        Raises:
            UserError: The folder is not empty, a file is missing, or the files of the splits do not belong together.
        """
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise UserError(f"{self.folder}: there is something already; give the name of a new folder")
        for path in [*self.train, *self.dev, *self.test, *self.text]:
            if not (path.exists() or str(path).startswith(HUB)):
                raise UserError(f"{path}: no such file")
        for split, paths in (("dev", self.dev), ("test", self.test)):
            if paths and len(paths) != len(self.train):
                raise UserError(
                    f"{len(self.train)} training files and {len(paths)} --{split} files: give one for each, in the same order"
                )
        if self.test and not self.dev:
            raise UserError("--test without --dev: give both, or none to split the training files")
        names = [path.stem for path in self.train]
        if len(set(names)) < len(names):
            raise UserError(f"two training files are called {max(names, key=names.count)!r}: rename one")

    @property
    def files(self) -> Dict[str, List[Path]]:
        """The files that there are, by split."""
        return {split: paths for split, paths in (("train", self.train), ("dev", self.dev), ("test", self.test)) if paths}

    def relative(self, path: Path) -> str:
        """The path as seen from the project."""
        if str(path).startswith(HUB):
            return str(path)
        return Path(os.path.relpath(path.resolve(), self.folder.resolve())).as_posix()

    @property
    def encoder_name(self) -> str:
        """The encoder as seen from the project."""
        if self.source:
            return SOURCED
        return self.relative(Path(self.encoder)) if Path(self.encoder).is_dir() else self.encoder


@dataclass
class Plan:
    """What was decided by looking at the data.

    Args:
        heads (Dict[str, Dict[str, Any]]): Name of each head -> its factory and settings.
        scores (Dict[str, Optional[float]]): Score -> weight in choosing the best model; None for the defaults that do not count.
        window (int): Subwords in a window.
        words (int): Words to encode in an epoch.
        step_words (int): Words in a step.
        epochs (int): Epochs.
        steps (int): Steps.
        rate (float): Peak learning rate of the encoder.
        precision (str): "bf16" if that is faster here, else "fp32".
        minutes (float): What the training is expected to take on this machine.
    """

    heads: Dict[str, Dict[str, Any]]
    scores: Dict[str, Optional[float]]
    window: int
    words: int
    step_words: int
    epochs: int
    steps: int
    rate: float
    precision: str
    minutes: float


def init_project(project: Project) -> Tuple[Plan, Dict[str, Any]]:
    """Look at the data, and write project.yml, configs/pipeline.cfg and README.md.

    Returns:
        Tuple[Plan, Dict[str, Any]]: What was decided, and what `check_data` found.

    Raises:
        UserError: The folder is not empty, a file cannot be read, there is no annotation, or the encoder cannot be found.
    """
    project.check()
    encoder = _sourced_encoder(project.source) if project.source else project.encoder
    model = load_pretrained(AutoModel, encoder)[0]  # a wrong name is found first
    reports: List[Report] = []
    items = list(read_labelled(project.files, project.lang, project.reading, reports))
    findings = check_documents(items, reports)
    plan = make_plan(items, model, encoder, bool(project.dev))
    files = {
        "project.yml": project_text(project, plan), "configs/pipeline.cfg": config_text(project, plan),
        "README.md": readme_text(project, plan),
    }  # fmt: skip
    if worst(findings) == ERROR and not project.accepts_errors:
        return plan, findings
    if project.folder.exists():
        project.folder.rmdir()  # it is empty
    with replacing(project.folder, "project.yml") as partial:
        for name, text in files.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_text(text, encoding="utf-8")
        if project.source:
            shutil.copytree(encoder, partial / SOURCED)
    return plan, findings


def _sourced_encoder(pipeline: str) -> str:
    """The folder with the encoder of a trained pipeline.

    Raises:
        UserError: There is no such pipeline, or it has no encoder of ours.
    """
    try:
        path = Path(str(load_model(pipeline).path)) / ENCODER
    except OSError as error:
        raise UserError(f"--from {pipeline}: no such pipeline folder or installed package") from error
    if not (path / "config.json").is_file():
        raise UserError(f"--from {pipeline}: the pipeline has no component 'transformer' of the factory mtl_transformer")
    return str(path)


def make_plan(items: Sequence[Labelled], model: Any, encoder: str, has_dev: bool) -> Plan:
    """Decide on the settings.

    Args:
        items (Sequence[Labelled]): All documents.
        model (Any): The encoder.
        encoder (str): Its name.
        has_dev (bool): Whether there are dev files; otherwise a fifth of the documents will not be trained on.

    Raises:
        UserError: No document is annotated.
    """
    train = [item.doc for item in items if item.split == "train"]
    heads: Dict[str, Dict[str, Any]] = {}
    selecting: List[str] = []
    for task in registered_tasks():
        own = [doc for doc in train if len(doc) and not task.is_auxiliary and task.is_annotated(doc)]
        if own and task.factory not in {head["factory"] for head in heads.values()}:
            settings = task.suggested_settings(own)
            heads[task.name] = {"factory": task.factory, **settings}
            selecting.append(task.selecting_score(settings))
    if not heads:
        raise UserError("no training document has an annotation, so there is nothing to train")
    scores: Dict[str, Optional[float]] = {
        key: None
        for head in heads.values()
        for key, weight in (Language.get_factory_meta(head["factory"]).default_score_weights or {}).items()
        if weight
    }
    scores |= {key: round(1 / len(selecting), 2) for key in selecting}
    words = round(sum(map(words_to_encode, train)) * (1.0 if has_dev else 0.8))
    step_words, epochs, rate = next(recipe[1:] for recipe in RECIPES if words <= recipe[0])
    window, steps = _window(train, encoder, max_length(model, model.config)), max(MIN_STEPS, epochs * words // step_words)
    precision = "bf16" if faster_in_bf16(pick_device("auto")) else "fp32"
    speed = training_words_per_second(model, window, step_words, precision)
    return Plan(
        heads, scores, window, words, step_words, epochs, steps, rate * min(1.0, RATE_WIDTH / model.config.hidden_size),
        precision, steps * step_words / speed / 60,
    )  # fmt: skip


def _window(docs: Sequence[Doc], encoder: str, longest: int) -> int:
    """The smallest window that most documents fit in, with their longest prompt."""
    tokenizer = load_tokenizer(encoder)
    sizes = []
    for doc in docs[:: max(1, len(docs) // SAMPLED)]:
        prompts = [prompt for task in registered_tasks() for prompt in task.encodings(doc) if prompt]
        prompt: Optional[str] = max(prompts, key=len, default=None)
        sizes.append(len(tokenizer(prompt or doc.text, doc.text if prompt else None)["input_ids"]))
    needed = sorted(sizes)[int(COVERED * (len(sizes) - 1))]
    return min(longest, next((window for window in WINDOWS if window >= needed), WINDOWS[-1]))
