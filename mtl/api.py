"""The Python API: each function does what the command of the same name does. `from mtl import adapt, convert, train, ...`.

Imports are inside the functions, so that `import mtl` stays free of cost.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Union

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

    from mtl.data.records import Report

PathLike = Union[str, Path]


def _silent(line: str) -> None:
    """The default for `echo`: print nothing."""


def convert(
    files: Dict[str, PathLike], out: PathLike, *, format: str = "auto", lang: str = "en", allow_unseen: bool = False,
    columns: Optional[Dict[str, str]] = None, encoding: str = "utf-8", repair: Sequence[str] = (), sentences: int = 1,
) -> Dict[str, "Report"]:  # fmt: skip
    """Convert labelled files to spaCy's format, and check them against each other.

    Args:
        files (Dict[str, PathLike]): By split, the file; the first is the training data. Written to `out/SPLIT.spacy`.
        out (PathLike): The folder to write to.
        format (str): A format's name, as in `mtl convert --format`, or "auto" to recognise it.
        lang (str): The language whose tokenizer is used, as in `spacy.blank`.
        allow_unseen (bool): Accept labels that the training data lacks.
        columns (Optional[Dict[str, str]]): What a column or key of the files is: {"text": "Body", "label": "Type"}.
        encoding (str): Of text files, as Python names it.
        repair (Sequence[str]): What to repair in place of refusing it: "offsets", "tags", "text".
        sentences (int): Sentences in a document of CoNLL files that do not say where documents end.

    Returns:
        Dict[str, Report]: By split, what was read, repaired and left out.

    Raises:
        UserError: A file cannot be read, or contradicts itself or the training data.
    """
    from mtl.data.convert import convert_splits
    from mtl.data.formats.reading import make_reading

    sources = {split: Path(file) for split, file in files.items()}
    targets = {split: Path(out) / f"{split}.spacy" for split in files}
    reading = make_reading(format, columns, encoding, repair, sentences)
    # One process: more would import the calling script again.
    return convert_splits(sources, targets, reading=reading, lang=lang, allow_unseen=allow_unseen, processes=1)


def read(
    path: PathLike, *, format: str = "auto", lang: str = "en", columns: Optional[Dict[str, str]] = None,
    encoding: str = "utf-8", repair: Sequence[str] = (), sentences: int = 1,
) -> List["Doc"]:  # fmt: skip
    """Read a labelled file of any format that `convert` reads.

    Args:
        path (PathLike): The file, a folder of files of one format, or an archive of either.
        format (str): A format's name, as in `mtl convert --format`, or "auto" to recognise it.
        lang (str): The language whose tokenizer is used, as in `spacy.blank`.
        columns (Optional[Dict[str, str]]): What a column or key of the file is: {"text": "Body", "label": "Type"}.
        encoding (str): Of text files, as Python names it.
        repair (Sequence[str]): What to repair in place of refusing it: "offsets", "tags", "text".
        sentences (int): Sentences in a document of CoNLL files that do not say where documents end.

    Returns:
        List[Doc]: The documents with their annotation.

    Raises:
        UserError: The file cannot be read, or contradicts itself.
    """
    from mtl.data.formats.reading import make_reading
    from mtl.data.labelled import read_labelled

    reading = make_reading(format, columns, encoding, repair, sentences)
    return [item.doc for item in read_labelled({"train": [Path(path)]}, lang, reading)]


def train(config: PathLike, output: PathLike, *, overrides: Optional[Dict[str, Any]] = None, resume: bool = True) -> "Language":
    """Train a pipeline from a spaCy config; a run that was interrupted resumes exactly where it was.

    Args:
        config (PathLike): The config file.
        output (PathLike): The folder for `model-best` and `model-last`.
        overrides (Optional[Dict[str, Any]]): Settings by dotted name, such as {"training.max_steps": 200}.
        resume (bool): Resume from the checkpoint that an unfinished run with the same config left.

    Returns:
        Language: The best pipeline.

    Raises:
        UserError: A setting or a file is wrong.
        KeyboardInterrupt: After Ctrl-C, once a checkpoint is written.
    """
    from spacy.util import load_config, load_model

    from mtl.training.run import train_config

    loaded = load_config(Path(config), overrides=overrides or {}, interpolate=False)
    _, interrupted = train_config(loaded, Path(output), resume=resume)
    if interrupted:
        raise KeyboardInterrupt
    return load_model(Path(output) / "model-best")


def evaluate(pipeline: Union[PathLike, "Language"], data: Sequence[PathLike], train: Sequence[PathLike] = ()) -> Dict[str, Any]:
    """Score every head of a pipeline.

    Args:
        pipeline (Union[PathLike, Language]): A pipeline, or its folder or package.
        data (Sequence[PathLike]): `.spacy` files or folders to score on.
        train (Sequence[PathLike]): Training data, to add trivial baselines.

    Returns:
        Dict[str, Any]: See `mtl.training.evaluation.evaluate_pipeline`.

    Raises:
        UserError: Nothing is annotated for any of the heads.
    """
    from spacy.util import load_model

    from mtl.training.evaluation import evaluate_pipeline

    nlp = load_model(pipeline) if isinstance(pipeline, (str, Path)) else pipeline
    return evaluate_pipeline(nlp, list(map(Path, data)), list(map(Path, train)))


def package(
    pipeline: PathLike, out: PathLike, *, name: str, version: str = "0.0.0", metrics: Optional[PathLike] = None
) -> List[Path]:
    """Build the wheel of a trained pipeline, and that of spacy-mtl if it runs from its sources. Needs no network.

    Args:
        pipeline (PathLike): The pipeline's folder.
        out (PathLike): Where the wheels go.
        name (str): The package's name, without the language.
        version (str): The package's version.
        metrics (Optional[PathLike]): Scores that `mtl evaluate --out` wrote, for the package's README.

    Returns:
        List[Path]: The wheels, that of the pipeline first.

    Raises:
        UserError: There is no pipeline, or the name or version is invalid.
    """
    from mtl.deploy.packaging import build_wheels

    return build_wheels(Path(pipeline), Path(out), name, version, None if metrics is None else Path(metrics))
