"""The console script: parse, call, print."""

import json
import re
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import typer

from mtl.errors import UserError, check_range
from mtl.files import check_target, replacing

app = typer.Typer(
    name="mtl",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="One shared transformer, continued on your text, with categories, entities and questions trained together.",
)

Encoder = typer.Argument(..., help="A Hugging Face folder, or a name on the hub.")


@app.command()
def convert(
    files: List[Path] = typer.Argument(..., help="Labelled files, training data first, then dev, then test."),
    out: Path = typer.Option(..., "--out", "-o", help="The folder to write to."),
    names: str = typer.Option("train,dev,test", help="What the files are called there, in the order given."),
    task: str = typer.Option("", help="Put each under its split: OUT/train/TASK.spacy instead of OUT/train.spacy."),
    format: str = typer.Option("auto", help="auto, jsonl, squad, pubtator or conll."),
    lang: str = typer.Option("en", help="The language whose tokenizer is used, as in spacy.blank."),
    shard_size: int = typer.Option(0, help="Write folders of files of so many documents, which stream from disk. 0: one file."),
    allow_unseen: bool = typer.Option(False, "--allow-unseen", help="Accept labels in dev or test that training data lacks."),
) -> None:
    """Convert labelled files to spaCy's format, and check them: offsets, labels, documents in two splits.

    \b
    Formats: JSON Lines (any subset of categories, entities, questions), SQuAD JSON, PubTator, CoNLL/IOB.
    Example: mtl convert train.jsonl dev.jsonl test.jsonl --out corpus/spacy
    """
    from mtl.data.convert import convert_splits

    split_names = [name.strip() for name in names.split(",")]
    if len(files) > len(split_names):
        raise UserError(f"{len(files)} files, but {len(split_names)} names: give --names one for each file")
    if len(set(split_names)) < len(split_names) or not all(re.fullmatch(r"\w[\w.-]*", name) for name in split_names):
        raise UserError(f"--names {names!r}: each file needs a name of its own, of letters, digits, '-', '_' and '.'")
    paths = {
        name: out / name / (task if shard_size else f"{task}.spacy") if task else out / (name if shard_size else f"{name}.spacy")
        for name in split_names
    }
    reports = convert_splits(
        dict(zip(split_names, files)), paths, format=format, lang=lang, shard_size=shard_size or 2000, allow_unseen=allow_unseen
    )
    for name, report in reports.items():
        typer.echo(f"{files[split_names.index(name)]} -> {paths[name]}")
        for what, count in report.counts.items():
            typer.echo(f"  {count:>7,} {what}")
        for note in report.notes[:5]:
            typer.echo(f"          {note}")
        if len(report.notes) > 5:
            typer.echo(f"          ... and {len(report.notes) - 5:,} more like these")


@app.command()
def adapt(
    encoder: str = Encoder,
    texts: List[str] = typer.Argument(
        ..., help="Domain text: .txt, .jsonl (also .gz), .parquet or .spacy files, folders or patterns."
    ),
    out: Path = typer.Option(..., "--out", "-o", help="The Hugging Face folder to write."),
    general: List[str] = typer.Option([], help="General text, to mix in and to measure forgetting on (repeatable)."),
    replay: float = typer.Option(0.05, help="Share of general text that is mixed in. 0: all of it is measured on."),
    max_forgetting: float = typer.Option(0.0, help="Stop when the loss on general text has risen by so many nats. 0: no limit."),
    passes: float = typer.Option(3.0, help="Passes over the text."),
    tokens: float = typer.Option(0, help="At most so many wordpieces of training, as in 2e8. 0: no limit."),
    max_steps: int = typer.Option(0, help="At most so many steps. 0: no limit."),
    minutes: float = typer.Option(0.0, help="At most so many minutes of training. 0: no limit."),
    length: int = typer.Option(128, help="Wordpieces a block."),
    batch_blocks: int = typer.Option(16, help="Blocks a forward pass."),
    accumulate: int = typer.Option(1, help="Forward passes a step."),
    gradient_checkpointing: bool = typer.Option(False, help="Compute activations twice instead of keeping them."),
    learn_rate: float = typer.Option(1e-4, help="Peak learning rate."),
    layer_decay: float = typer.Option(1.0, help="Each layer's rate is so many times that of the one above."),
    evaluations: int = typer.Option(4, help="Evaluations on the way; the weights that are best on held-out text are saved."),
    probe: List[str] = typer.Option([], help="Labelled .spacy files: linear models on them say which weights are best."),
    probe_dev: List[str] = typer.Option([], help="What those are scored on."),
    decay: float = typer.Option(1.0, help="Share of the budget, at its end, in which the rate falls to 0."),
    objective: str = typer.Option(
        "auto", help="words or spans (masked), replaced (ELECTRA), next (for decoders); auto: as the model is."
    ),
    generator: str = typer.Option("", help="For an ELECTRA discriminator: the small masked-LM model published with it."),
    rate: float = typer.Option(0.2, help="Share of words that are masked."),
    lora: int = typer.Option(
        0, help="Train updates of this rank beside the encoder's weights, merged at the end. 0: the weights."
    ),
    grow_vocabulary: int = typer.Option(0, help="Try so many domain words as wordpieces: adapts twice, and keeps the better."),
    held_out: float = typer.Option(0.05, help="Share of documents kept apart to measure on."),
    precision: str = typer.Option("auto", help="auto, fp32 or bf16; auto takes bf16 where it measures faster."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, ..."),
    seed: int = typer.Option(0),
    checkpoint_minutes: float = typer.Option(10.0, help="Minutes between checkpoints. 0: none."),
    keep: int = typer.Option(2, help="Checkpoints that are kept."),
    resume: bool = typer.Option(True, help="Go on from the checkpoint that an unfinished run of the same kind left."),
    clean: bool = typer.Option(True, help="Repair the domain text, and drop repetitions and near duplicates."),
    min_words: int = typer.Option(3, help="Cleaning: shorter paragraphs are dropped."),
    near_duplicates: float = typer.Option(0.8, help="Cleaning: share of 5-grams that makes a document one. 0: none is."),
    away_from: List[str] = typer.Option([], help="Cleaning: labelled files (dev, test) whose text is dropped (repeatable)."),
) -> None:
    """Continue an encoder's pretraining on domain text, by masked language modelling (a decoder's: of the next wordpiece).

    \b
    Ctrl-C ends the run early and saves what was learned; the same command goes on from there, as after a crash.
    Example: mtl adapt sentence-transformers/all-MiniLM-L6-v2 corpus/domain.txt --out training/encoder
    """
    from mtl.adapt.cleaning import CleanSettings
    from mtl.adapt.loop import Adaptation
    from mtl.adapt.probe import Probe
    from mtl.adapt.settings import AdaptSettings
    from mtl.adapt.text import text_files

    text_files([*texts, *general])  # a wrong name is found before an encoder is fetched
    if away_from and not clean:
        raise UserError("--away-from is a part of cleaning, which --no-clean turns off; give one of the two")
    settings = AdaptSettings(
        passes=passes, tokens=tokens, max_steps=max_steps, minutes=minutes, length=length, batch_blocks=batch_blocks,
        accumulate=accumulate, gradient_checkpointing=gradient_checkpointing, learn_rate=learn_rate, decay=decay, rate=rate,
        held_out=held_out, precision=precision, device=device, seed=seed, checkpoint_minutes=checkpoint_minutes, keep=keep,
        replay=replay, max_forgetting=max_forgetting, layer_decay=layer_decay, evaluations=evaluations,
        objective=objective, generator=generator, lora=lora,
    )  # fmt: skip
    cleaning = CleanSettings(min_words, near_duplicates, tuple(away_from)) if clean else None
    check_range("grow-vocabulary", grow_vocabulary, 0)
    if bool(probe) != bool(probe_dev) or (probe and grow_vocabulary):
        raise UserError("--probe and --probe-dev go together, and not with --grow-vocabulary, which bits per byte decide")
    if grow_vocabulary:
        from mtl.adapt.vocabulary import adapt_with_words

        adapt_with_words(encoder, settings, grow_vocabulary, list(texts), list(general), out, resume, cleaning, typer.echo)
        return
    adaptation = Adaptation(encoder, settings, typer.echo)
    probed = Probe(probe, probe_dev, adaptation.tokenizer, seed) if probe else None
    report = adaptation.run(list(texts), list(general), out, resume, cleaning, probed)
    adaptation.echo(
        f"{report['tokens']:,} tokens in {report['seconds']:.0f} s ({report['tokens_per_second']:,} a second) -> {out}"
    )


@app.command()
def neighbours(
    labelled: List[str] = typer.Argument(..., help="Labelled training files of all heads, of any format, or converted."),
    source: List[str] = typer.Option(..., "--from", help="The large corpus, as text for `mtl adapt` (repeatable)."),
    out: Path = typer.Option(..., "--out", "-o", help="The folder to write to."),
    k: int = typer.Option(50, help="Paragraphs for each labelled document."),
    min_words: int = typer.Option(10, help="Shorter paragraphs are left out."),
    away_from: List[str] = typer.Option([], help="Labelled files (dev, test) whose text is left out (repeatable)."),
    seed: int = typer.Option(0, help="Of the random control."),
) -> None:
    """Pick the text from a large corpus that is most like the labelled documents, and as much at random, to adapt on either.

    \b
    Example: mtl neighbours corpus/spacy/train.spacy --from wikipedia.jsonl.gz --out near
    """
    from mtl.adapt.neighbours import NeighbourSettings, pick_neighbours

    report = pick_neighbours(labelled, source, out, NeighbourSettings(k, min_words, seed), away_from, typer.echo)
    for name in ("neighbours", "random"):
        typer.echo(f"{out / name}.jsonl: {report[name]['paragraphs']:,} paragraphs, {report[name]['words']:,} words")


@app.command()
def distance(
    encoder: str = Encoder,
    texts: List[str] = typer.Argument(..., help="Domain text, as for `mtl adapt`."),
    general: List[str] = typer.Option(..., help="General text to compare with, such as encyclopedia articles (repeatable)."),
    words: int = typer.Option(100_000, help="Words of either text to measure on, at most."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, ..."),
    seed: int = typer.Option(0),
    out: Optional[Path] = typer.Option(None, "--out", "-o", help="Also write what was measured as JSON."),
) -> None:
    """Say whether continued pretraining is likely to pay: how far domain text is from general text, for this encoder.

    \b
    Example: mtl distance sentence-transformers/all-MiniLM-L6-v2 corpus/domain.txt --general wikipedia.txt
    """
    from mtl.adapt.distance import DistanceSettings, distance_table, measure_distance

    if out is not None:
        check_target(out)
    settings = DistanceSettings(words, device, seed)
    result = measure_distance(encoder, texts, general, settings, typer.echo)
    typer.echo(distance_table(result))
    if out is not None:
        write_json(out, result)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def steps(
    context: typer.Context,
    config: Path = typer.Argument(..., help="A training config; settings can be overridden as in `spacy train`."),
) -> None:
    """Count the steps of an epoch, to choose max_steps by: the learning-rate schedule must know the length of the run.

    \b
    Example: mtl steps configs/sample.cfg --paths.train corpus/spacy/train.spacy
    """
    from mtl.training.steps import count_steps

    found = count_steps(config, context.args)
    read = f"{found['words']:,} words, {found['encoded']:,} as the encoder reads them"
    typer.echo(f"{found['steps']:,} steps an epoch: {found['examples']:,} examples, {read}")


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
def compare(
    config: Path = typer.Argument(..., help="A training config."),
    data: List[Path] = typer.Argument(..., help="Converted files or folders to score on; they are kept out of the text."),
    out: Path = typer.Option(..., "--out", "-o", help="The folder for results; the same command goes on from what is there."),
    adaptation: bool = typer.Option(False, "--adaptation", help="Compare the encoder as it is with the same, adapted."),
    sharing: bool = typer.Option(False, "--sharing", help="Compare every head trained alone with all trained together."),
    distill: bool = typer.Option(False, help="--sharing: also together, each head taught by the one alone."),
    encoder: str = typer.Option("", help="--adaptation: the encoder to begin with; else what the config names."),
    text: List[str] = typer.Option([], help="Domain text, as for `mtl adapt` (repeatable)."),
    general: List[str] = typer.Option([], help="General text to measure forgetting on (repeatable)."),
    tokens: float = typer.Option(2e6, help="Wordpieces of training for each continuation, as in 2e6."),
    precision: str = typer.Option("auto", help="Of continued pretraining: auto, fp32 or bf16."),
    seeds: int = typer.Option(3, help="Trainings of each kind."),
    labels: str = typer.Option("", help="Shares of the labelled documents to train on. --adaptation: 0.1,1; --sharing: 1."),
    override: List[str] = typer.Option([], "--set", help="A setting of the config, as in training.max_steps=200 (repeatable)."),
    plot: bool = typer.Option(True, help="Draw the differences (needs matplotlib)."),
) -> None:
    """Measure what a choice gives, with the same settings, seeds and labelled documents: an adapted encoder, or a shared one.

    \b
    Example: mtl compare configs/sample.cfg corpus/spacy/dev.spacy --adaptation --text corpus/domain.txt --out compared
    Example: mtl compare configs/sample.cfg corpus/spacy/dev.spacy --sharing --out compared
    """
    from mtl.compare import report
    from mtl.compare.adaptation import compare_adaptation, make_arms
    from mtl.compare.runs import CompareSettings, Runs
    from mtl.compare.sharing import compare_sharing, statistics_of

    if adaptation == sharing:
        raise UserError("say what to compare: --adaptation or --sharing")
    if distill and adaptation:
        raise UserError("--distill is a part of --sharing")
    if plot:
        report.check_plotting()
    shares = [read_share(part) for part in (labels or ("0.1,1" if adaptation else "1")).split(",")]
    settings = CompareSettings(seeds, shares)
    settings.check()
    runs = Runs(config, data, out, dict(map(read_setting, override)))
    if adaptation:
        arms = make_arms(runs, encoder, text, general, tokens, precision, typer.echo)
        result = compare_adaptation(runs, arms, settings, typer.echo)
        shown = f"{report.adaptation_table(result)}\n\n{report.adaptation_words(result)}"
        title = "Difference to the encoder as it is"
    else:
        result = compare_sharing(runs, settings, typer.echo, distill)
        result["statistics"] = statistics_of(result)
        shown = f"{report.sharing_table(result, result['statistics'])}\n\n{report.sharing_words(result)}"
        title = "All heads together, against each alone"
    typer.echo(f"\n{shown}")
    write_json(out / "comparison.json", result)
    if plot:
        report.plot_differences(result, out / "comparison.png", title)
    typer.echo(f"\n{out / 'comparison.json'}" + (f", {out / 'comparison.png'}" if plot else ""))


@app.command()
def train(
    config: Path = typer.Argument(..., help="A training config, as for `spacy train`."),
    output: Path = typer.Option(..., "--output", "-o", help="The folder for model-best, model-last and checkpoints."),
    override: List[str] = typer.Option([], "--set", help="A setting of the config, as in training.max_steps=200 (repeatable)."),
    resume: bool = typer.Option(True, help="Go on from the checkpoint that an unfinished run under the same config left."),
    checkpoint_minutes: float = typer.Option(10.0, help="Minutes between checkpoints. 0: only after Ctrl-C."),
    reference: List[str] = typer.Option(
        [], help="A score of a model for one task alone, as in ents_f=0.83: best is the highest mean of scores over these."
    ),
    best_per_score: bool = typer.Option(False, help="Also keep the best model of each score, as model-best-SCORE."),
) -> None:
    """Train by a spaCy config, as `spacy train` does; and go on after a crash, or Ctrl-C, exactly where the run was.

    \b
    Example: mtl train configs/sample.cfg --output training/pipeline
    """
    from spacy.util import load_config
    from thinc.api import ConfigValidationError

    from mtl.training.run import train_config

    if not config.is_file():
        raise UserError(f"{config}: no such file; a training config is needed")
    changes = dict(map(read_setting, override))
    references = dict(map(read_reference, reference))
    try:
        loaded = load_config(config, overrides=changes, interpolate=False)
        _, interrupted = train_config(
            loaded, output, resume=resume, checkpoint_minutes=checkpoint_minutes, references=references,
            best_per_score=best_per_score,
        )  # fmt: skip
    except ConfigValidationError as error:
        raise UserError(f"{config}: {' '.join(str(error).split())}") from None
    if interrupted:
        raise KeyboardInterrupt
    typer.echo(f"{output / 'model-last'}")


HeadTrain = typer.Option(..., "--train", help="Converted files or folders to learn from (repeatable).")
HeadDev = typer.Option(..., "--dev", help="Converted files or folders to score on (repeatable).")
HeadOut = typer.Option(..., "--out", "-o", help="The folder to write the pipeline to.")
HeadPasses = typer.Option(5.0, help="Passes over the training data.")
HeadRate = typer.Option(3e-4, help="Peak learning rate; the head's is ten times that.")
HeadCost = typer.Option(True, help="Train the head once more with the encoder free, to see what the frozen one costs.")
HeadPipeline = typer.Argument(..., help="A pipeline's folder or package.")


@app.command()
def add_head(
    pipeline: str = HeadPipeline,
    factory: str = typer.Argument(..., help="mtl_textcat, mtl_ner, mtl_qa, ..."),
    name: str = typer.Option("", help="The component's name; else the factory's without mtl_."),
    train: List[Path] = HeadTrain,
    dev: List[Path] = HeadDev,
    out: Path = HeadOut,
    settings: List[str] = typer.Option([], "--set", help="A setting of the head, as in exclusive=false (repeatable)."),
    passes: float = HeadPasses,
    learn_rate: float = HeadRate,
    cost: bool = HeadCost,
    seed: int = typer.Option(0),
) -> None:
    """Add a head to a finished pipeline. Its encoder and the other heads stay as they are, and so do their outputs.

    \b
    Example: mtl add-head en_mtl_maintenance mtl_textcat --name severity --train a.spacy --dev b.spacy --out with_severity
    """
    from mtl.training.one_head import summary, train_head

    name = name or factory.removeprefix("mtl_")
    nlp = load(pipeline)
    if name in nlp.pipe_names:
        raise UserError(f"the pipeline has a component {name!r} already; give another --name, or use mtl retrain-head")
    if not nlp.has_factory(factory):
        raise UserError(f"there is no factory {factory!r}; ours are mtl_textcat, mtl_ner, mtl_qa, mtl_regressor and mtl_tagger")
    head = {"factory": factory, **dict(read_setting(one, "exclusive=false", dotted=False) for one in settings)}
    report = train_head(pipeline, name, head, {"train": train, "dev": dev}, out, passes, learn_rate, cost, typer.echo, seed)
    typer.echo(f"\n{summary(report)}\n\n{out}")


@app.command()
def retrain_head(
    pipeline: str = HeadPipeline,
    name: str = typer.Argument(..., help="The head's name in the pipeline."),
    train: List[Path] = HeadTrain,
    dev: List[Path] = HeadDev,
    out: Path = HeadOut,
    passes: float = HeadPasses,
    learn_rate: float = HeadRate,
    cost: bool = HeadCost,
    seed: int = typer.Option(0),
) -> None:
    """Train one head of a finished pipeline anew, with the settings it has, and leave the rest as it is.

    \b
    Example: mtl retrain-head en_mtl_maintenance ner --train a.spacy --dev b.spacy --out with_new_ner
    """
    from mtl.training.one_head import head_settings, summary, train_head

    head = head_settings(load(pipeline), name)
    report = train_head(pipeline, name, head, {"train": train, "dev": dev}, out, passes, learn_rate, cost, typer.echo, seed)
    typer.echo(f"\n{summary(report)}\n\n{out}")


@app.command()
def remove_head(
    pipeline: str = HeadPipeline,
    name: str = typer.Argument(..., help="The head's name in the pipeline."),
    out: Path = HeadOut,
) -> None:
    """Write a finished pipeline without one of its heads.

    \b
    Example: mtl remove-head en_mtl_maintenance qa --out without_questions
    """
    from mtl.training import one_head

    one_head.remove_head(load(pipeline), name, out)
    typer.echo(f"{out}")


@app.command()
def distill(
    pipeline: str = HeadPipeline,
    text: List[str] = typer.Option([], help="Unlabelled domain text, as for `mtl adapt` (repeatable)."),
    asked: List[Path] = typer.Option([], help="Converted files whose documents and questions it also learns on (repeatable)."),
    dev: List[Path] = HeadDev,
    out: Path = typer.Option(..., "--out", "-o", help="The folder to write the students to."),
    layers: str = typer.Option("4,3,2", help="Layers of the students' encoders."),
    passes: float = typer.Option(3.0, help="Passes over the text."),
    learn_rate: float = typer.Option(3e-4, help="Peak learning rate; the heads' is three times that."),
    seed: int = typer.Option(0),
) -> None:
    """Make smaller students of a finished pipeline, and show their speed against their scores.

    \b
    Example: mtl distill en_mtl_maintenance --text domain.txt --asked train.spacy --dev dev.spacy --out students
    """
    from mtl.adapt.text import stream_documents, text_files
    from mtl.training.distill import distill as make_students
    from mtl.training.distill import distill_table

    load(pipeline)  # a wrong name is told in a line
    try:
        counts = [int(part) for part in layers.split(",")]
    except ValueError:
        raise UserError(f"--layers {layers!r}: give whole numbers, as in 4,3,2") from None
    texts = stream_documents(text_files(text)) if text else iter(())
    report = make_students(pipeline, texts, asked, dev, counts, out, passes, learn_rate, typer.echo, seed)
    typer.echo(f"\n{distill_table(report)}\n\n{out}")


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


@app.command()
def bench(
    pipeline: str = typer.Argument(..., help="A pipeline's folder or package."),
    texts: List[str] = typer.Argument(..., help="Documents to measure on: .txt, .jsonl or .spacy files, or folders of them."),
    batches: int = typer.Option(30, help="Batches to measure."),
    batch_size: int = typer.Option(64, help="Documents a batch."),
    question: str = typer.Option("", help="Asked of every tenth document."),
    precision: str = typer.Option("", help="The encoder's precision; else what the pipeline says."),
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
    changes = {"components.transformer.model.precision": precision} if precision else {}
    result = run(lambda: load(pipeline, changes), read_documents(texts), settings, progress)
    typer.echo(show(result))
    if out is not None:
        write_json(out, result)


@app.command()
def optimize(
    pipeline: str = typer.Argument(..., help="A trained pipeline's folder; with --dry-run also a package."),
    data: List[Path] = typer.Argument(..., help="Converted files or folders to score on: dev data, not test."),
    seconds: float = typer.Option(15.0, help="Timing of each precision, beside scoring."),
    max_drop: float = typer.Option(0.3, help="Points that a head's score may lose against fp32."),
    documents: int = typer.Option(256, help="Documents that are timed, drawn from the data."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show what would be chosen, and leave the pipeline as it is."),
    out: Optional[Path] = typer.Option(None, "--out", "-o", help="Also write what was found as JSON."),
) -> None:
    """Try the precisions that this machine has, and set the fastest that scores as well as fp32 in the pipeline's config.

    \b
    The weights stay as they are, and on a machine that lacks the precision the pipeline says so and runs in fp32.
    Example: mtl optimize training/pipeline/model-best corpus/spacy/dev.spacy
    """
    from mtl.serving.optimize import OptimizeSettings, check_written, optimize_pipeline, optimize_table, write_precision

    if not dry_run:
        check_written(Path(pipeline))
    if out is not None:
        check_target(out)

    def load_in(precision: str) -> Any:
        return load(
            pipeline, {"components.transformer.model.precision": precision, "components.transformer.model.fallback": False}
        )

    result = optimize_pipeline(load_in, data, OptimizeSettings(seconds, max_drop, documents), progress)
    typer.echo(optimize_table(result))
    if not dry_run:
        write_precision(Path(pipeline), result["chosen"])
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


def progress(line: str) -> None:
    """A line that is written over itself, where somebody watches."""
    if sys.stderr.isatty():
        typer.echo(line, nl=False, err=True)


def load(pipeline: str, changes: Optional[Dict[str, Any]] = None) -> Any:
    """`spacy.load`, with a message instead of a traceback where there is no such pipeline. changes: config overrides."""
    import spacy

    try:
        nlp = spacy.load(pipeline, config=changes or {})
    except OSError as error:
        raise UserError(
            f"{pipeline}: no such pipeline folder or installed package ({str(error).splitlines()[0][:120]})"
        ) from error
    nlp.max_length = max(nlp.max_length, 10**9)  # the limit is for spaCy's parser
    return nlp


def read_setting(given: str, example: str = "training.max_steps=200", dotted: bool = True) -> Tuple[str, Any]:
    """A name, with its section where `dotted`, and its value, which is JSON, or text as it stands."""
    name, equals, value = given.partition("=")
    if not equals or ("." in name) != dotted:
        raise UserError(f"--set {given!r}: give a setting {'with' if dotted else 'without'} its section, as in {example}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def read_reference(given: str) -> Tuple[str, float]:
    name, _, value = given.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise UserError(f"--reference {given!r}: give a score and its number, as in ents_f=0.83") from None


def read_share(part: str) -> float:
    try:
        return float(part)
    except ValueError:
        raise UserError(f"--labels: {part!r} is no number; give shares, as in 0.1,1") from None


def read_argument(text: str) -> str:
    """The text itself, or what the file of that name or standard input holds."""
    from mtl.data.records import read_text

    if text == "-":
        try:
            text = sys.stdin.buffer.read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"standard input is not UTF-8 (byte {error.start + 1})") from None
    elif len(text.split()) == 1 and Path(text).suffix in (".txt", ".md"):
        text = read_text(text)
    elif len(text.split()) == 1 and Path(text).is_file():
        raise UserError(f"{text}: text is read from .txt and .md files; for another, give it on standard input: - < {text}")
    if not text.strip():
        raise UserError("the text is empty")
    return text


def write_json(path: Path, value: Any) -> None:
    """A readable JSON file, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Entry point: a user's mistake, or a file that cannot be had, is one message and exit code 1; else there is a traceback."""
    from thinc.api import ConfigValidationError

    try:
        app()
    except ConfigValidationError as error:
        typer.echo(f"error: the config: {' '.join(str(error).split())}", err=True)
        sys.exit(1)
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            raise
        typer.echo(f"error: {error.filename}: {error.strerror}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
