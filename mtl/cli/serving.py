"""A finished pipeline: `evaluate`, `ask`, `bench`, `optimize`, `package`, `verify`."""

from pathlib import Path
from typing import Any, Dict, List, Optional

import typer

from mtl.cli.common import app, load, progress, read_argument, write_json
from mtl.errors import UserError, check_range
from mtl.files import check_target


@app.command()
def evaluate(
    pipeline: str = typer.Argument(..., help="A pipeline's folder or package."),
    data: List[Path] = typer.Argument(..., help="Converted files or folders to score on."),
    train: List[Path] = typer.Option([], help="Training data, for the trivial baselines (repeat for several)."),
    out: Optional[Path] = typer.Option(None, "--out", "-o", help="Also write the scores as JSON."),
) -> None:
    """Score every head of a pipeline, questions included, beside trivial baselines.

    \b
    Example: mtl evaluate training/pipeline/model-best corpus/spacy/test.spacy --train corpus/spacy/train.spacy
    """
    from mtl.training.evaluation import evaluate_pipeline, table

    if out is not None:
        check_target(out)
    result = evaluate_pipeline(load(pipeline), data, train)
    typer.echo(table(result))
    if out is not None:
        write_json(out, result)


@app.command()
def ask(
    pipeline: str = typer.Argument(..., help="A pipeline's folder or package."),
    text: str = typer.Argument(..., help="The text, a file that holds it, or - for standard input."),
    question: List[str] = typer.Argument(..., help="One or more questions."),
    n: int = typer.Option(1, help="How many answers to show."),
) -> None:
    """Ask questions of a text.

    \b
    Example: mtl ask en_mtl_maintenance "Crew noted smoke. The recirculation fan had seized." "What had seized?"
    """
    nlp = load(pipeline)
    if not any(nlp.get_pipe_meta(name).factory == "mtl_qa" for name in nlp.pipe_names):
        raise UserError(
            f"{pipeline}: the pipeline has no question-answering head; its components are {', '.join(nlp.pipe_names)}"
        )
    doc = nlp(read_argument(text))
    for one in question:
        typer.echo(f"? {one}")
        for answer in doc._.ask(one, n=n):
            typer.echo(
                f"> {answer.text or '(the text does not say)'}   ({answer.score if answer.text else answer.no_answer_score:.2f})"
            )


def _of_encoder(**settings: Any) -> Dict[str, Any]:
    """The encoder's settings as `spacy.load` takes changes to a config."""
    return {f"components.transformer.model.{name}": value for name, value in settings.items()}


@app.command()
def bench(
    pipeline: str = typer.Argument(..., help="A pipeline's folder or package."),
    texts: List[str] = typer.Argument(..., help="Documents to measure on: .txt, .jsonl or .spacy files, or folders of them."),
    batches: int = typer.Option(30, help="Batches to measure."),
    batch_size: int = typer.Option(64, help="Documents a batch."),
    question: str = typer.Option("", help="Asked of every tenth document."),
    precision: str = typer.Option("", help="The encoder's precision; else what the pipeline says."),
    backend: str = typer.Option("", help="What the encoder runs in, torch or openvino; else what the pipeline says."),
    threads: int = typer.Option(0, help="Threads of torch. 0: its own choice."),
    profile: bool = typer.Option(False, "--profile", help="Show where the time goes, by stage, instead."),
    out: Optional[Path] = typer.Option(None, "--out", "-o", help="Also write the result as JSON."),
) -> None:
    """Measure a pipeline: words/s with its 95% interval, latency, memory, load time. Any spaCy pipeline will do.

    \b
    Example: mtl bench en_mtl_maintenance corpus/domain.txt --profile
    """
    import torch

    from mtl.adapt.text import read_documents
    from mtl.serving.bench import BenchSettings, bench_pipeline, bench_table, profile_pipeline, profile_table

    if out is not None:
        check_target(out)
    check_range("--threads", threads, 0)
    if threads:
        torch.set_num_threads(threads)
    settings = BenchSettings(batches=batches, batch_size=batch_size, question=question)
    run, show = (profile_pipeline, profile_table) if profile else (bench_pipeline, bench_table)
    changes = _of_encoder(**{name: value for name, value in (("precision", precision), ("backend", backend)) if value})
    result = run(lambda: load(pipeline, changes), read_documents(texts), settings, progress)
    typer.echo(show(result))
    if out is not None:
        write_json(out, result)


@app.command()
def optimize(
    pipeline: str = typer.Argument(..., help="A trained pipeline's folder; with --dry-run also a package."),
    data: List[Path] = typer.Argument(..., help="Converted files or folders to score on: dev data, not test."),
    seconds: float = typer.Option(15.0, help="Timing of each precision and backend, beside scoring."),
    max_drop: float = typer.Option(0.3, help="Points that a head's score may lose against fp32."),
    documents: int = typer.Option(256, help="Documents that are timed, drawn from the data."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show what would be chosen, and leave the pipeline as it is."),
    out: Optional[Path] = typer.Option(None, "--out", "-o", help="Also write what was found as JSON."),
) -> None:
    """Try the precisions and backends that this machine has, and set the fastest that scores as well as fp32 in torch.

    \b
    The choice goes into the pipeline's config. The weights stay as they are, and on a machine that lacks the precision the
    pipeline says so and runs in fp32.
    Example: mtl optimize training/pipeline/model-best corpus/spacy/dev.spacy
    """
    from mtl.serving.optimize import OptimizeSettings, check_written, optimize_pipeline, optimize_table, write_choice

    if not dry_run:
        check_written(Path(pipeline))
    if out is not None:
        check_target(out)

    def load_in(precision: str, backend: str) -> Any:
        return load(pipeline, _of_encoder(precision=precision, backend=backend, fallback=False))

    result = optimize_pipeline(load_in, data, OptimizeSettings(seconds, max_drop, documents), progress)
    typer.echo(optimize_table(result))
    if not dry_run:
        row = result["tried"][result["chosen"]]
        write_choice(Path(pipeline), row["precision"], row["backend"])
    typer.echo(f"{result['chosen']}" + ("" if dry_run else f" -> {pipeline}/config.cfg"))
    if out is not None:
        write_json(out, result)


@app.command()
def package(
    pipeline: Path = typer.Argument(..., help="A trained pipeline's folder."),
    out: Path = typer.Option(Path("packages"), "--out", "-o", help="Where the wheels go."),
    name: str = typer.Option("mtl_pipeline", help="The package's name, without the language."),
    version: str = typer.Option("0.0.0", help="The package's version."),
    metrics: Optional[Path] = typer.Option(None, help="Scores that `mtl evaluate --out` wrote, for the package's README."),
) -> None:
    """Build the pipeline's wheel, and spacy-mtl's own beside it where it runs from its sources. Needs no network.

    \b
    Example: mtl package training/pipeline/model-best --name mtl_maintenance --version 1.0.0
    """
    from mtl.training.packaging import build_wheels

    for wheel in build_wheels(pipeline, out, name, version, metrics):
        typer.echo(f"{wheel.name}  {wheel.stat().st_size / 1e6:.1f} MB")


@app.command()
def verify(
    packages: Path = typer.Argument(..., help="The folder that `mtl package` wrote."),
    text: str = typer.Option(..., help="A document to process there."),
    question: str = typer.Option("", help="A question to ask of it."),
    metrics: Optional[Path] = typer.Option(None, help="Scores that `mtl evaluate --out` wrote, to show with the result."),
    out: Optional[Path] = typer.Option(None, "--out", "-o", help="Also write what came out as JSON."),
) -> None:
    """Install the built wheels into a clean virtual environment, and process a document there.

    \b
    Example: mtl verify packages --text "The fuel pump had seized." --question "What had seized?"
    """
    from mtl.training.evaluation import table
    from mtl.training.packaging import read_metrics, verify_wheels

    result = verify_wheels(packages, text, question, typer.echo)
    if metrics is not None:
        typer.echo("\n" + table(read_metrics(metrics)))
    typer.echo(f"\n{result['pipeline']} {result['version']}, installed, on: {text}\n")
    for label, score in sorted(result["cats"].items(), key=lambda item: -item[1]):
        typer.echo(f"  {score:6.2f}  {label}")
    for mention, label in result["ents"]:
        typer.echo(f"  {label:>10}  {mention}")
    if question:
        typer.echo(f"\n? {question}\n> {result['answer'] or '(the text does not say)'}")
    if out is not None:
        write_json(out, result)
