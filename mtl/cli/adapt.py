"""Continued pretraining: `adapt`, `neighbours`, `distance`."""

from pathlib import Path
from typing import Any, Dict, List, Optional

import typer

from mtl.cli.common import app, write_report
from mtl.errors import UserError, check_range
from mtl.files import check_target

ENCODER_ARGUMENT = typer.Argument(..., help="A Hugging Face folder or a name on the hub.")


@app.command()
def adapt(
    encoder: str = ENCODER_ARGUMENT,
    texts: List[str] = typer.Argument(
        ..., help="Domain text: .txt, .jsonl (also .gz), .parquet, .spacy files, folders, patterns."
    ),
    out: Path = typer.Option(..., "--out", "-o", help="The Hugging Face folder to write."),
    general: List[str] = typer.Option([], help="General text, to mix in and to measure forgetting on (repeatable)."),
    replay_ratio: float = typer.Option(0.05, help="Fraction of general text in the batches. 0: only evaluate on it."),
    max_forgetting: float = typer.Option(0.0, help="Stop if the loss on general text rises by more nats. 0: no limit."),
    epochs: float = typer.Option(3.0, help="Epochs over the text."),
    max_tokens: float = typer.Option(0, help="Subwords to train on, at most, such as 2e8. 0: no limit."),
    max_steps: int = typer.Option(0, help="Optimizer steps, at most. 0: no limit."),
    max_minutes: float = typer.Option(0.0, help="Minutes of training, at most. 0: no limit."),
    block_size: int = typer.Option(128, help="Subwords in a block."),
    batch_size: int = typer.Option(16, help="Blocks in a forward pass."),
    gradient_accumulation_steps: int = typer.Option(1, help="Forward passes in an optimizer step."),
    gradient_checkpointing: bool = typer.Option(False, help="Compute activations twice to save memory."),
    learning_rate: float = typer.Option(0.0, help="Peak learning rate. 0: by the encoder's width, 6e-4 for 384."),
    head_only_ratio: float = typer.Option(
        0.05,
        help="Fraction of the budget in which only a new language-model head is trained, if it still learns.",
    ),
    causal_ratio: float = typer.Option(0.0, help="Fraction of the budget to predict the next subword in, ahead of masked ones."),
    layer_lr_decay: float = typer.Option(1.0, help="Factor between a layer's learning rate and that of the layer above."),
    num_evaluations: int = typer.Option(4, help="Evaluations in training. The weights that are best on held-out text are saved."),
    probe: List[str] = typer.Option([], help="Labelled .spacy files: linear models on them decide which weights are best."),
    probe_dev: List[str] = typer.Option([], help="Labelled .spacy files to score these models on."),
    decay_ratio: float = typer.Option(1.0, help="Final fraction of the budget over which the learning rate falls to 0."),
    objective: str = typer.Option(
        "auto", help="mlm, span_mlm (masked spans), rtd (ELECTRA), clm (decoders); auto: by the model."
    ),
    generator: str = typer.Option("", help="For an ELECTRA discriminator: the small masked-LM model published with it."),
    mlm_probability: float = typer.Option(0.2, help="Fraction of words to mask."),
    lora_rank: int = typer.Option(0, help="Train low-rank updates of this rank, merged at the end. 0: train the weights."),
    grow_vocabulary: int = typer.Option(0, help="Domain words to try as new subwords: adapts twice and keeps the better result."),
    validation_split: float = typer.Option(0.05, help="Fraction of documents to hold out for evaluation."),
    precision: str = typer.Option("auto", help="auto, fp32 or bf16; auto: bf16 if it measures faster."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, ..."),
    seed: int = typer.Option(0, help="Seed of all random choices."),
    checkpoint_minutes: float = typer.Option(10.0, help="Minutes between checkpoints. 0: none."),
    save_total_limit: int = typer.Option(2, help="Checkpoints to keep."),
    resume: bool = typer.Option(True, help="Resume from the newest checkpoint of an unfinished run."),
    clean: bool = typer.Option(True, help="Repair the domain text, and drop repetitions and near duplicates."),
    min_words: int = typer.Option(3, help="Cleaning: drop shorter paragraphs."),
    near_duplicate_threshold: float = typer.Option(0.8, help="Cleaning: drop documents this similar to an earlier one. 0: off."),
    decontaminate: List[str] = typer.Option([], help="Cleaning: drop the text of these labelled files (dev, test; repeatable)."),
) -> None:
    """Continue an encoder's pretraining on domain text, by masked language modelling (a decoder's: by causal).

    \b
    Ctrl-C ends the run early and saves what was learned; the same command resumes from there, as after a crash.
    Example: mtl adapt sentence-transformers/all-MiniLM-L6-v2 corpus/domain.txt --out training/encoder
    Example: torchrun --nproc_per_node 4 -m mtl adapt ENCODER corpus/domain.txt --out training/encoder
    """
    _adapt(**locals())


def _adapt(
    encoder: str, texts: List[str], out: Path, general: List[str], resume: bool, probe: List[str], probe_dev: List[str],
    grow_vocabulary: int, clean: bool, min_words: int, near_duplicate_threshold: float, decontaminate: List[str], **options: Any,
) -> None:  # fmt: skip
    """The command `adapt`. All options that are not named here are settings of the run."""
    from mtl import distributed
    from mtl.adaptation.cleaning import CleanSettings
    from mtl.adaptation.probe import Probe
    from mtl.adaptation.run import adapt as adapt_encoder
    from mtl.adaptation.settings import AdaptSettings
    from mtl.adaptation.text import text_files
    from mtl.adaptation.vocabulary import adapt_with_words
    from mtl.encoder.pretrained.sources import load_tokenizer

    text_files([*texts, *general])  # before an encoder is downloaded
    if decontaminate and not clean:
        raise UserError("--decontaminate is part of cleaning, which --no-clean turns off; give one of the two")
    if bool(probe) != bool(probe_dev) or (probe and grow_vocabulary):
        raise UserError("--probe and --probe-dev go together, and not with --grow-vocabulary, which bits per byte decide")
    check_range("grow-vocabulary", grow_vocabulary, 0)
    settings = AdaptSettings(**options)
    settings.check()
    cleaning = CleanSettings(min_words, near_duplicate_threshold, tuple(decontaminate)) if clean else None
    distributed.init()
    shared: Dict[str, Any] = {"general": general, "cleaning": cleaning, "resume": resume, "echo": typer.echo}
    if grow_vocabulary:
        adapt_with_words(encoder, settings, grow_vocabulary, texts, out, **shared)
    else:
        linear_probe = Probe(probe, probe_dev, load_tokenizer(encoder), settings.seed) if probe else None
        report = adapt_encoder(encoder, texts, out, settings=settings, probe=linear_probe, **shared)
        if distributed.is_main():
            speed = f"{report['tokens_per_second']:,} tokens/s"
            typer.echo(f"{report['tokens']:,} tokens in {report['seconds']:.0f} s ({speed}) -> {out}")
    distributed.shutdown()


@app.command()
def neighbours(
    labelled: List[str] = typer.Argument(..., help="Labelled training files of all heads, of any format, or converted."),
    source: List[str] = typer.Option(..., "--from", help="The large corpus: text files as for `mtl adapt` (repeatable)."),
    out: Path = typer.Option(..., "--out", "-o", help="The folder to write."),
    k: int = typer.Option(50, help="Paragraphs for each labelled document."),
    min_words: int = typer.Option(10, help="Leave out shorter paragraphs."),
    decontaminate: List[str] = typer.Option([], help="Leave out the text of these labelled files (dev, test; repeatable)."),
    seed: int = typer.Option(0, help="Seed of the random control."),
) -> None:
    """Select the text most like the labelled documents from a large corpus, and as much at random, to adapt on either.

    \b
    Example: mtl neighbours corpus/spacy/train.spacy --from wikipedia.jsonl.gz --out near
    """
    from mtl.adaptation.neighbours import NeighbourSettings, pick_neighbours

    report = pick_neighbours(labelled, source, out, NeighbourSettings(k, min_words, seed), decontaminate, typer.echo)
    for name in ("neighbours", "random"):
        typer.echo(f"{out / name}.jsonl: {report[name]['paragraphs']:,} paragraphs, {report[name]['words']:,} words")


@app.command()
def distance(
    encoder: str = ENCODER_ARGUMENT,
    texts: List[str] = typer.Argument(..., help="Domain text, as for `mtl adapt`."),
    general: List[str] = typer.Option(..., help="General text to compare with, such as encyclopedia articles (repeatable)."),
    words: int = typer.Option(100_000, help="Words of each text to measure on, at most."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, ..."),
    seed: int = typer.Option(0, help="Seed of the samples."),
    out: Optional[Path] = typer.Option(None, "--out", "-o", help="Also write the measurements as JSON."),
) -> None:
    """Say whether continued pretraining is likely to help: how far domain text is from general text for this encoder.

    \b
    Example: mtl distance sentence-transformers/all-MiniLM-L6-v2 corpus/domain.txt --general wikipedia.txt
    """
    from mtl.adaptation.distance import DistanceSettings, distance_table, measure_distance

    if out is not None:
        check_target(out)
    settings = DistanceSettings(words, device, seed)
    result = measure_distance(encoder, texts, general, settings, typer.echo)
    typer.echo(distance_table(result))
    if out is not None:
        write_report(out, result)
