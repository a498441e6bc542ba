"""Continued pretraining: `adapt`, `neighbours`, `distance`."""

from pathlib import Path
from typing import List, Optional

import typer

from mtl.cli.common import app, write_json
from mtl.errors import UserError, check_range
from mtl.files import check_target

Encoder = typer.Argument(..., help="A Hugging Face folder, or a name on the hub.")


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
