"""The average of several trained pipelines' weights, where it is better than the best of them.

Pipelines that were trained from the same encoder lie in one basin of the loss, so that the mean of their weights is often better
than each of them, at the cost of one (Wortsman et al. 2022, "Model soups", https://arxiv.org/abs/2203.05482).
"""

from pathlib import Path
from typing import Any, Dict, List, Sequence

import torch
from spacy.language import Language
from spacy.util import load_model
from torch import Tensor, nn

from mtl.encoder.component import Transformer
from mtl.errors import UserError
from mtl.files import check_target, replacing, write_json
from mtl.progress import Echo
from mtl.registry import headlines, heads_of, tasks_of
from mtl.training.evaluation import evaluate_pipeline, score_named
from mtl.training.saving import without_local_paths

AVERAGE = "average"

Weights = Dict[str, Dict[str, Tensor]]  # component -> parameter -> value


def average_pipelines(pipelines: Sequence[str], dev: Sequence[Path], out: Path, echo: Echo) -> Dict[str, Any]:
    """Average pipelines as long as that helps, and write the result.

    The greedy soup of the paper: beginning with the best pipeline, each of the others, best first, is added to the average if the
    mean of the heads' scores does not fall. Thresholds are tuned on `dev` again, as in training.

    Args:
        pipelines (Sequence[str]): Folders or packages: runs of one config with other seeds, or evaluations of one run.
        dev (Sequence[Path]): Converted files or folders to score on.
        out (Path): Where to write.
        echo (Echo): Gets messages.

    Returns:
        Dict[str, Any]: The report, also in `out/average.json`: "scores" of each pipeline and of the average, by name; "averaged",
            the names of those that are in it.

    Raises:
        UserError: There are fewer than two, or they differ in components, labels or sizes.
    """
    check_target(out, "meta.json")
    names = _names(pipelines)
    nlp = load_model(pipelines[0])
    weights = dict(zip(names, _weights_of_all(nlp, pipelines)))
    scores = {}
    for name in names:
        _set_weights(nlp, weights[name])
        scores[name] = _scores(nlp, dev)
        echo(f"{name}: {_show(scores[name])}")
    order = sorted(names, key=lambda name: -_mean(scores[name]))
    averaged, best = order[:1], scores[order[0]]
    for name in order[1:]:
        _set_weights(nlp, mean_weights([weights[other] for other in (*averaged, name)]))
        tried = _scores(nlp, dev)
        is_better = _mean(tried) >= _mean(best)
        echo(f"{' + '.join((*averaged, name))}: {_show(tried)}{'' if is_better else '  (left out)'}")
        if is_better:
            averaged, best = [*averaged, name], tried
    _set_weights(nlp, mean_weights([weights[name] for name in averaged]))
    scores[AVERAGE] = _scores(nlp, dev)
    report = {"scores": scores, "averaged": averaged}
    with replacing(out, "meta.json") as partial:
        nlp.to_disk(partial)
        without_local_paths(partial / "config.cfg")
        write_json(partial / "average.json", report)
    return report


def _names(pipelines: Sequence[str]) -> List[str]:
    """The pipelines by as much of their paths as tells them apart."""
    if len(pipelines) < 2:
        raise UserError("give at least two pipelines to average")
    parts = [Path(pipeline).parts for pipeline in pipelines]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise UserError(f"a pipeline is given twice: {', '.join(pipelines)}")


def _weights_of_all(first: Language, pipelines: Sequence[str]) -> List[Weights]:
    """The weights of the pipelines, the first of which is loaded.

    Raises:
        UserError: They do not fit together.
    """
    expected = _weights(first)
    labels = {name: head.labels for name, head in heads_of(first).items()}
    if not expected:
        raise UserError(f"{pipelines[0]}: none of its components is ours; they are {', '.join(first.pipe_names)}")
    found = [expected]
    for pipeline in pipelines[1:]:
        nlp = load_model(pipeline)
        if nlp.pipe_names != first.pipe_names:
            raise UserError(
                f"{pipeline}: its components are {', '.join(nlp.pipe_names)}, and those of {pipelines[0]} "
                f"{', '.join(first.pipe_names)}"
            )
        for name, head in heads_of(nlp).items():
            if head.labels != labels[name]:
                raise UserError(f"{pipeline}: the labels of {name!r} are not those of {pipelines[0]}, in that order")
        weights = _weights(nlp)
        for name, values in expected.items():
            others = {key: value.shape for key, value in weights[name].items()}
            if others != {key: value.shape for key, value in values.items()}:
                raise UserError(f"{pipeline}: the weights of {name!r} have other sizes than those of {pipelines[0]}")
        found.append(weights)
    return found


def _modules(nlp: Language) -> Dict[str, nn.Module]:
    """The torch modules of our components, by name."""
    modules: Dict[str, nn.Module] = {name: head.module for name, head in heads_of(nlp).items()}
    for name, pipe in nlp.pipeline:
        if isinstance(pipe, Transformer):
            modules[name] = pipe.encoder
    return modules


def _weights(nlp: Language) -> Weights:
    modules = _modules(nlp)
    return {name: {key: value.detach().clone() for key, value in module.state_dict().items()} for name, module in modules.items()}


def _set_weights(nlp: Language, weights: Weights) -> None:
    for name, module in _modules(nlp).items():
        module.load_state_dict(weights[name])
        inference = getattr(module, "inference", None)
        if inference is not None:
            inference.invalidate()


def mean_weights(members: Sequence[Weights]) -> Weights:
    """The mean of weights; of what is not a number with a fraction, such as positions, the first."""
    return {
        name: {
            key: torch.stack([member[name][key].float() for member in members]).mean(0).to(value.dtype)
            if value.is_floating_point() else value
            for key, value in values.items()
        }
        for name, values in members[0].items()
    }  # fmt: skip


def _scores(nlp: Language, dev: Sequence[Path]) -> Dict[str, float]:
    """The headline scores, with thresholds tuned as in training."""
    heads = heads_of(nlp).values()
    for head in heads:
        head._in_training = True
    try:
        scores = evaluate_pipeline(nlp, dev)["scores"]
    finally:
        for head in heads:
            head._in_training = False
    return {key: scores[key] for key in headlines(scores, tasks_of(nlp))}


def _mean(scores: Dict[str, float]) -> float:
    """The mean of the scores; of errors, their negative counts."""
    values = [-value if score_named(key).is_error else value for key, value in scores.items()]
    return sum(values) / max(len(values), 1)


def _show(scores: Dict[str, float]) -> str:
    return "  ".join(f"{score_named(key).title} {score_named(key).show(value)}" for key, value in scores.items())
