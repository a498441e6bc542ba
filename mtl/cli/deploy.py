"""Use of a trained pipeline: `ask`, `bench`, `optimize`, `package`, `verify`."""

from pathlib import Path
from typing import Any, List, Optional

import typer

from mtl.cli.common import app, encoder_overrides, load_pipeline, read_text_argument, write_report
from mtl.errors import UserError, check_range
from mtl.files import check_target, sha256_of
from mtl.progress import show_progress


@app.command()
def ask(
    pipeline: str = typer.Argument(..., help="Folder or package of a pipeline."),
    text: str = typer.Argument(..., help="The text, a .txt or .md file, or - for standard input."),
    question: List[str] = typer.Argument(..., help="One or more questions."),
    n: int = typer.Option(1, help="Number of answers to show for each question."),
) -> None:
    """Ask questions about a text.

    \b
    Example: mtl ask en_mtl_maintenance "Crew noted smoke. The recirculation fan had seized." "What had seized?"
    """
    nlp = load_pipeline(pipeline)
    if not any(hasattr(pipe, "ask") for _, pipe in nlp.pipeline):
        raise UserError(
            f"{pipeline}: the pipeline has no question-answering head; its components are {', '.join(nlp.pipe_names)}"
        )
    doc = nlp(read_text_argument(text))
    for asked in question:
        typer.echo(f"? {asked}")
        for answer in doc._.ask(asked, n=n):
            score = answer.score if answer.text else answer.no_answer_score
            typer.echo(f"> {answer.text or '(the text does not say)'}   ({score:.2f})")


@app.command()
def bench(
    pipeline: str = typer.Argument(..., help="Folder or package of any spaCy pipeline."),
    texts: List[str] = typer.Argument(..., help="Documents to process: .txt, .jsonl or .spacy files, or folders of them."),
    batches: int = typer.Option(30, help="Number of batches to measure, at least 30."),
    batch_size: int = typer.Option(64, help="Documents per batch."),
    question: str = typer.Option("", help="Question to ask about every tenth document."),
    precision: str = typer.Option("", help="Precision of the encoder. Default: the pipeline's."),
    backend: str = typer.Option("", help="Backend of the encoder, torch or openvino. Default: the pipeline's."),
    threads: int = typer.Option(0, help="Number of torch threads. 0: torch's default."),
    profile: bool = typer.Option(False, "--profile", help="Show the time spent in each stage instead."),
    out: Optional[Path] = typer.Option(None, "--out", "-o", help="Also write the result as JSON."),
) -> None:
    """Measure a pipeline's speed, latency, memory and load time.

    \b
    Words per second come with a 95% confidence interval.
    Example: mtl bench en_mtl_maintenance corpus/domain.txt --profile
    """
    import torch

    from mtl.adaptation.text import read_documents
    from mtl.deploy.bench import BenchSettings, bench_pipeline, bench_table, profile_pipeline, profile_table

    if out is not None:
        check_target(out)
    check_range("--threads", threads, 0)
    if threads:
        torch.set_num_threads(threads)
    settings = BenchSettings(batches=batches, batch_size=batch_size, question=question)
    measure, table = (profile_pipeline, profile_table) if profile else (bench_pipeline, bench_table)
    changed = {name: value for name, value in (("precision", precision), ("backend", backend)) if value}
    result = measure(
        lambda: load_pipeline(pipeline, encoder_overrides(**changed)), read_documents(texts), settings, show_progress
    )
    typer.echo(table(result))
    if out is not None:
        write_report(out, result)


@app.command()
def optimize(
    pipeline: str = typer.Argument(..., help="Folder of a trained pipeline; with --dry-run also a package."),
    data: List[Path] = typer.Argument(..., help="Converted files or folders to score on: dev data, not test data."),
    seconds: float = typer.Option(15.0, help="Seconds of timing for each precision and backend, in addition to scoring."),
    max_drop: float = typer.Option(0.3, help="Points that a head's score may drop compared with fp32."),
    documents: int = typer.Option(256, help="Number of documents to time, sampled from the data."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show the choice without changing the pipeline."),
    out: Optional[Path] = typer.Option(None, "--out", "-o", help="Also write the measurements as JSON."),
) -> None:
    """Choose the fastest precision and backend that score as well as fp32.

    \b
    The choice is written to the pipeline's config; the weights stay as they are. On a machine without that precision, the
    pipeline runs in fp32 and logs a warning.
    Example: mtl optimize training/pipeline/model-best corpus/spacy/dev.spacy
    """
    from mtl.deploy.optimize import OptimizeSettings, check_writable, optimize_pipeline, optimize_table, write_choice

    if not dry_run:
        check_writable(Path(pipeline))
    if out is not None:
        check_target(out)

    def load(precision: str, backend: str) -> Any:
        return load_pipeline(pipeline, encoder_overrides(precision=precision, backend=backend, fallback=False))

    result = optimize_pipeline(load, data, OptimizeSettings(seconds, max_drop, documents), show_progress)
    typer.echo(optimize_table(result))
    if not dry_run:
        row = result["tried"][result["chosen"]]
        write_choice(Path(pipeline), row["precision"], row["backend"])
    typer.echo(result["chosen"] if dry_run else f"{result['chosen']} -> {pipeline}/config.cfg")
    if out is not None:
        write_report(out, result)


@app.command()
def package(
    pipeline: Path = typer.Argument(..., help="Folder of a trained pipeline."),
    out: Path = typer.Option(Path("packages"), "--out", "-o", help="Output folder of the wheels."),
    name: str = typer.Option("mtl_pipeline", help="Package name, without the language code."),
    version: str = typer.Option("0.0.0", help="Package version."),
    metrics: Optional[Path] = typer.Option(None, help="Scores written by `mtl evaluate --out`, for the package's README."),
) -> None:
    """Build a wheel of a pipeline.

    \b
    The wheel of spacy-mtl, which the pipeline needs, is written beside it. Needs no network.
    Example: mtl package training/pipeline/model-best --name mtl_maintenance --version 1.0.0
    """
    from mtl.deploy.commands import install_command
    from mtl.deploy.packaging import build_wheels

    wheels = build_wheels(pipeline, out, name, version, metrics)
    for wheel in wheels:
        typer.echo(f"{wheel.name}  {wheel.stat().st_size / 1e6:.1f} MB  sha256 {sha256_of(wheel)}")
    typer.echo(f"\nto install them: {install_command(wheels)}")


@app.command()
def verify(
    packages: Path = typer.Argument(..., help="Folder written by `mtl package`."),
    data: Optional[Path] = typer.Option(None, help="Converted file to take the document and its gold annotation from."),
    document: int = typer.Option(1, help="Number of the document in --data, from 1."),
    text: str = typer.Option("", help="Text to process instead of a document of --data."),
    question: str = typer.Option("", help="Question to ask about --text."),
    metrics: Optional[Path] = typer.Option(None, help="Scores written by `mtl evaluate --out`, to show with the result."),
    out: Optional[Path] = typer.Option(None, "--out", "-o", help="Also write the result as JSON."),
) -> None:
    """Install the wheels in a clean environment and try them.

    \b
    Example: mtl verify packages --data corpus/spacy/test.spacy --document 3
    Example: mtl verify packages --text "The fuel pump had seized." --question "What had seized?"
    """
    from mtl.deploy.packaging import read_metrics
    from mtl.deploy.verify import document_of, pick_document, verification_report, verify_wheels
    from mtl.training.evaluation import score_table

    if (data is None) == (not text):
        raise UserError("give either --data with a document, or --text")
    if question and data is not None:
        raise UserError("--question requires --text; the documents of --data have their own questions")
    doc = pick_document(data, document) if data is not None else document_of(text, question)
    result = verify_wheels(packages, doc, data is not None, typer.echo)
    if metrics is not None:
        typer.echo("\n" + score_table(read_metrics(metrics)))
    typer.echo("\n" + verification_report(result))
    if out is not None:
        write_report(out, result)
