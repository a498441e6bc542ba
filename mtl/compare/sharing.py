"""`mtl compare --sharing`: each head trained alone, against all heads trained together on one encoder."""

import re
from itertools import islice
from typing import Any, Dict, Iterable, Iterator, List, Sequence, Set, Tuple

from spacy.language import Language
from spacy.training import Example
from spacy.util import dot_to_object, load_model_from_config, registry
from thinc.api import Config

from mtl.compare.baselines import baselines_without_encoder
from mtl.compare.differences import difference_rows, with_mean
from mtl.compare.runs import CompareSettings, Result, Runs, TrainingRun, check_length, weights_of
from mtl.errors import UserError
from mtl.progress import Echo
from mtl.registry import task_types
from mtl.sampling.corpus import count_encoded_words, is_annotated_for_any
from mtl.timing import machine
from mtl.training.logger import means

ALONE, TOGETHER, DISTILLED = "alone", "together", "together, taught by the heads alone"


def compare_sharing(runs: Runs, settings: CompareSettings, echo: Echo, distill: bool = False) -> Dict[str, Any]:
    """Train every head alone and all together, on each fraction of the labelled documents and with each seed.

    A head alone sees the same documents in the same order and equally often.

    Args:
        runs (Runs): Runs of the config.
        settings (CompareSettings): Seeds and fractions.
        echo (Echo): Gets messages.
        distill (bool): Also train all together with teachers: each head learns from the one trained alone with the same seed,
            over the whole run (see `Teacher`).

    Returns:
        Dict[str, Any]: "config", "documents", "seeds", "heads", "steps" (of each head alone), "differences" (together minus
        alone), "baselines" (without an encoder), "sampling" (fraction of the joint run's words by head), "runs", "environment".

    Raises:
        UserError: The config has fewer than two scored heads, or no number of steps.
    """
    config = load_model_from_config(runs.load_config({}), auto_fill=True).config.interpolate()
    check_length(config["training"])
    heads = scored_heads(config, runs.config.name)
    steps, sampling = single_task_steps(config, heads)
    single = ", ".join(f"{head} {count}" for head, count in steps.items())
    echo(f"steps: {config['training']['max_steps']} together; alone {single}")
    train_files = [file for files in runs.train_files.values() for file in files]
    baselines = baselines_without_encoder(train_files, runs.data)
    contents = {runs.encoder_setting(): weights_of(runs.encoder())}
    plan = plan_runs(heads, steps, settings, distill)
    results = runs.results(plan, {run.arm: contents for run in plan}, lambda config, head: only_head(config, head, heads), echo)
    rows: List[Dict[str, Any]] = []
    for fraction in settings.label_fractions:
        at_fraction = [result for result in results if result["label_fraction"] == fraction]
        alone = single_task_scores(at_fraction, heads, settings.seeds, config["training"]["score_weights"])
        for arm in (TOGETHER, DISTILLED) if distill else (TOGETHER,):
            together = [result["scores"] for result in at_fraction if result["arm"] == arm]
            differences = difference_rows(alone, together, (ALONE, TOGETHER))
            rows += [{"arm": arm, "label_fraction": fraction, **row} for row in differences]
    return {
        "config": runs.config.name, "documents": runs.documents, "seeds": settings.seeds, "heads": heads, "steps": steps,
        "differences": rows, "baselines": baselines, "sampling": sampling, "runs": results, "environment": machine(),
    }  # fmt: skip


def plan_runs(heads: Sequence[str], steps: Dict[str, int], settings: CompareSettings, distill: bool) -> List[TrainingRun]:
    """The runs of a comparison. Teachers come before what they teach."""
    plan: List[TrainingRun] = []
    for fraction in settings.label_fractions:
        for seed in range(settings.seeds):
            alone = {
                head: TrainingRun(head, seed, fraction, {"training.max_steps": steps[head]}, head, keep=distill) for head in heads
            }
            plan += [TrainingRun(TOGETHER, seed, fraction, {}), *alone.values()]
            plan += [TrainingRun(DISTILLED, seed, fraction, {}, teachers=alone)] if distill else []
    return plan


def single_task_scores(
    results: Iterable[Result], heads: Sequence[str], seeds: int, weights: Dict[str, float]
) -> List[Dict[str, float]]:
    """For each seed, the scores of all heads that were trained alone, and their mean."""
    merged: List[Dict[str, float]] = [{} for _ in range(seeds)]
    for result in results:
        if result["arm"] in heads:
            merged[result["seed"]] |= result["scores"]
    return [with_mean(scores, weights) for scores in merged]


def scored_heads(config: Config, name: str, at_least: int = 2) -> List[str]:
    """The scored heads of the config's pipeline.

    Args:
        config (Config): The config.
        name (str): Its name, for the error message.
        at_least (int): How many there have to be.

    Raises:
        UserError: There are fewer: with one, nothing is shared.
    """
    nlp = load_model_from_config(config, auto_fill=True)
    heads = [head for head, pipe in nlp.pipeline if getattr(pipe, "scorer", None) is not None]
    if len(heads) < at_least:
        raise UserError(f"{name}: its pipeline has the scored heads {heads}; {at_least} or more are compared")
    return heads


def only_head(config: Config, head: str, heads: Sequence[str]) -> Config:
    """The config with one of the scored heads alone, on the documents that it learns from, in the same order.

    Args:
        config (Config): The joint config.
        head (str): The head to keep.
        heads (Sequence[str]): All scored heads. Auxiliary ones are removed as well.
    """
    changed = config.copy()
    auxiliary = {task.factory for task in task_types() if task.is_auxiliary}
    removed = {other for other in heads if other != head}
    removed |= {name for name, section in changed["components"].items() if section.get("factory") in auxiliary}
    changed["nlp"]["pipeline"] = [name for name in changed["nlp"]["pipeline"] if name not in removed]
    _drop_weights(changed, [changed["components"][name] for name in removed], changed["components"][head])
    for section in (changed["components"], changed.get("initialize", {}).get("components", {})):
        for name in removed & set(section):
            del section[name]
    for section in changed["components"].values():
        for setting in ("weights", "anneal"):
            for name in removed & set(section.get("weighting", {}).get(setting, {})):
                del section["weighting"][setting][name]
    multipliers = changed["training"].get("optimizer", {}).get("lr_multipliers", {})
    for pattern in list(multipliers):
        if any(re.match(rf"\^?{re.escape(name)}\b", pattern) for name in removed):
            del multipliers[pattern]  # a pattern that matches nothing is an error
    *parents, corpus = str(changed["training"]["train_corpus"]).split(".")
    section = dot_to_object(changed, ".".join(parents))
    section[corpus] = {"@readers": "mtl.AnnotatedExamples.v1", "corpus": section[corpus]}
    return changed


def _drop_weights(config: Config, removed: Sequence[Dict[str, Any]], kept: Dict[str, Any]) -> None:
    """Take the weight from the scores of removed heads, which nobody reports any more."""
    dropped = {name for section in removed for name in _score_names(section)} - _score_names(kept)
    weights = config["training"].get("score_weights", {})
    weights |= {name: None for name in weights if name in dropped}


def _score_names(section: Dict[str, Any]) -> Set[str]:
    """The scores that a head with this section of the config may report."""
    names = set(Language.get_factory_meta(section["factory"]).default_score_weights or {}) if "factory" in section else set()
    tasks = [task.from_settings(section) for task in task_types() if task.factory == section.get("factory")]
    return names | {score.key for task in tasks for score in task.scores}


def single_task_steps(joint: Config, heads: Sequence[str]) -> Tuple[Dict[str, int], Dict[str, float]]:
    """In how many steps each head alone sees what it sees in the joint run.

    The joint run's batches are made as spaCy's loop makes them, without training.

    Args:
        joint (Config): The joint config.
        heads (Sequence[str]): The scored heads.

    Returns:
        Tuple: By head, `training.max_steps` when it is trained alone; its fraction of the words that the joint run reads.
    """
    max_steps = int(joint["training"]["max_steps"])
    epochs = list(_epochs(joint, max_steps + 1))  # spaCy's loop numbers steps from 0 and ends after that of this number
    steps, words = {}, {}
    for head in heads:
        nlp = load_model_from_config(only_head(joint, head, heads), auto_fill=True)
        batcher = registry.resolve({"batcher": joint["training"]["batcher"]})["batcher"]
        head_epochs = [[example for example in epoch if is_annotated_for_any(nlp, example.reference)] for epoch in epochs]
        steps[head] = max(1, sum(1 for epoch in head_epochs for _ in batcher(epoch)) - 1)
        words[head] = sum(count_encoded_words(example) for epoch in head_epochs for example in epoch)
    return steps, {head: count / max(sum(words.values()), 1) for head, count in words.items()}


def _epochs(config: Config, steps: int) -> Iterator[List[Example]]:
    """The examples that this many steps read, by epoch."""
    nlp = load_model_from_config(config, auto_fill=True)
    corpus = registry.resolve({"corpus": dot_to_object(config, config["training"]["train_corpus"])})["corpus"]
    batcher = registry.resolve({"batcher": config["training"]["batcher"]})["batcher"]
    while steps > 0:
        batches = list(islice(batcher(corpus(nlp)), steps))
        steps -= len(batches)
        yield [example for batch in batches for example in batch]


def mean_statistics(result: Dict[str, Any]) -> Dict[str, float]:
    """The mean over the joint runs of each `cosine/A/B`, `norm/TASK` and `weight/TASK`."""
    return means([run["statistics"] for run in result["runs"] if run["arm"] == TOGETHER and run.get("statistics")])
