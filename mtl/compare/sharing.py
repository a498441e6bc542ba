"""Does one encoder for all heads cost or give? Every head trained alone, against all trained together."""

import re
from itertools import islice
from typing import Any, Callable, Dict, Iterable, Iterator, List, Sequence, Tuple

from spacy.training import Example
from spacy.util import dot_to_object, load_model_from_config, registry
from thinc.api import Config

from mtl.compare.baselines import baselines_without_encoder
from mtl.compare.differences import difference_rows, with_mean
from mtl.compare.runs import CompareSettings, Run, Runs, check_length, weights_of
from mtl.errors import UserError
from mtl.machine import machine
from mtl.mixture.reader import count_encoded_words, is_learned_from

ALONE, TOGETHER, DISTILLED = "alone", "together", "together, taught by the heads alone"
Echo = Callable[[str], None]


def heads_of(config: Config, name: str) -> List[str]:
    """The scored heads of the config's pipeline. RAISES (UserError): there are not two or more, so nothing is shared."""
    nlp = load_model_from_config(config, auto_fill=True)
    heads = [head for head, pipe in nlp.pipeline if getattr(pipe, "scorer", None) is not None]
    if len(heads) < 2:
        raise UserError(f"{name}: its pipeline has the scored heads {heads}; sharing is compared for two or more")
    return heads


def only_head(config: Config, head: str, heads: Sequence[str]) -> Config:
    """The config with that one of the scored `heads` alone, on the documents that it learns from, in the same order."""
    changed = config.copy()
    gone = {other for other in heads if other != head}
    gone |= {name for name, section in changed["components"].items() if section.get("factory") == "mtl_masked_lm"}
    changed["nlp"]["pipeline"] = [name for name in changed["nlp"]["pipeline"] if name not in gone]
    for section in (changed["components"], changed.get("initialize", {}).get("components", {})):
        for name in gone & set(section):
            del section[name]
    for section in changed["components"].values():
        for setting in ("weights", "anneal"):
            for name in gone & set(section.get("balance", {}).get(setting, {})):
                del section["balance"][setting][name]
    factors = changed["training"].get("optimizer", {}).get("factors", {})
    for pattern in [one for one in factors if any(re.match(rf"\^?{re.escape(name)}\b", one) for name in gone)]:
        del factors[pattern]  # which would match nothing
    *above, corpus = str(changed["training"]["train_corpus"]).split(".")
    section = dot_to_object(changed, ".".join(above))
    section[corpus] = {"@readers": "mtl.LearnedFrom.v1", "corpus": section[corpus]}
    return changed


def steps_and_shares(joint: Config, heads: Sequence[str]) -> Tuple[Dict[str, int], Dict[str, float]]:
    """For each head, the steps in which it sees alone what it sees in the joint run; and its share of what that run reads.

    The joint run's batches are made as spaCy's loop makes them, without training.
    """
    steps = int(joint["training"]["max_steps"]) + 1  # spaCy's loop ends when the step of that number, from 0, is done
    epochs = list(_epochs(joint, steps))
    found, words = {}, {}
    for head in heads:
        nlp = load_model_from_config(only_head(joint, head, heads), auto_fill=True)
        batcher = registry.resolve({"batcher": joint["training"]["batcher"]})["batcher"]
        kept = [[example for example in epoch if is_learned_from(nlp, example.reference)] for epoch in epochs]
        found[head] = max(1, sum(1 for epoch in kept for _ in batcher(epoch)) - 1)
        words[head] = sum(count_encoded_words(example) for epoch in kept for example in epoch)
    return found, {head: own / max(sum(words.values()), 1) for head, own in words.items()}


def _epochs(config: Config, steps: int) -> Iterator[List[Example]]:
    """The examples that so many steps read, by epoch."""
    nlp = load_model_from_config(config, auto_fill=True)
    corpus = registry.resolve({"corpus": dot_to_object(config, config["training"]["train_corpus"])})["corpus"]
    batcher = registry.resolve({"batcher": config["training"]["batcher"]})["batcher"]
    while steps > 0:
        batches = list(islice(batcher(corpus(nlp)), steps))
        steps -= len(batches)
        yield [example for batch in batches for example in batch]


def compare_sharing(runs: Runs, settings: CompareSettings, echo: Echo, distill: bool = False) -> Dict[str, Any]:
    """Train every head alone and all together, with each share of the labels and each seed.

    distill: once more together, each head taught by the one alone of the same seed (see `Teacher`) over the whole run.

    A head alone sees the same documents in the same order, as often. RETURNS: "runs", "differences" of together to alone,
    "baselines" without an encoder, "mixture" (each head's share of what a joint run reads), "environment".
    """
    config = load_model_from_config(runs.loaded({}), auto_fill=True).config.interpolate()
    check_length(config["training"])
    heads = heads_of(config, runs.config.name)
    steps, mixture = steps_and_shares(config, heads)
    echo(f"steps: {config['training']['max_steps']} together; alone " + ", ".join(f"{name} {n}" for name, n in steps.items()))
    known = baselines_without_encoder([file for files in runs.train_files.values() for file in files], runs.data)
    given = {runs.encoder_setting(): weights_of(runs.encoder())}
    plan: List[Run] = []
    for share in settings.labels:
        for seed in range(settings.seeds):
            alone_runs = {head: Run(head, seed, share, {"training.max_steps": steps[head]}, head, keep=distill) for head in heads}
            plan += [Run(TOGETHER, seed, share, {}), *alone_runs.values()]
            plan += [Run(DISTILLED, seed, share, {}, teachers=alone_runs)] if distill else []
    done = runs.results(plan, {run.arm: given for run in plan}, lambda config, head: only_head(config, head, heads), echo)
    weights = config["training"]["score_weights"]
    rows: List[Dict[str, Any]] = []
    for share in settings.labels:
        own = [run for run in done if run["labels"] == share]
        alone = [
            with_mean(_merged(run["scores"] for run in own if run["seed"] == seed and run["arm"] in heads), weights)
            for seed in range(settings.seeds)
        ]
        for arm in (TOGETHER, DISTILLED) if distill else (TOGETHER,):
            together = [run["scores"] for run in own if run["arm"] == arm]
            rows += [{"arm": arm, "labels": share, **row} for row in difference_rows(alone, together, (ALONE, TOGETHER))]
    return {
        "config": runs.config.name, "documents": runs.documents, "seeds": settings.seeds, "heads": heads, "steps": steps,
        "differences": rows, "baselines": known, "mixture": mixture, "runs": done, "environment": machine(),
    }  # fmt: skip


def _merged(scores: Iterable[Dict[str, float]]) -> Dict[str, float]:
    return {key: value for one in scores for key, value in one.items()}


def statistics_of(result: Dict[str, Any]) -> Dict[str, float]:
    """Of the joint runs, the mean of each `cosine/A/B`, `norm/TASK` and `weight/TASK`."""
    found = [run["statistics"] for run in result["runs"] if run["arm"] == TOGETHER and run.get("statistics")]
    keys = sorted({key for one in found for key in one if key != "step"})
    return {key: sum(one[key] for one in found if key in one) / sum(key in one for one in found) for key in keys}
