"""Does continued pretraining help the heads? Compare the encoder as it is with the same one adapted to task and domain text."""

from typing import Any, Dict, List, Tuple

from thinc.api import Config

from mtl.compare.arms import AdaptedEncoder
from mtl.compare.differences import EARLY_LEVEL, MEAN, UNDECIDED, Scores, difference_rows, paired_difference
from mtl.compare.runs import CompareSettings, Result, Runs, TrainingRun, weights_of
from mtl.compare.sharing import scored_heads
from mtl.progress import Echo
from mtl.registry import task_types
from mtl.timing import machine


def compare_adaptation(runs: Runs, arms: Dict[str, AdaptedEncoder], settings: CompareSettings, echo: Echo) -> Dict[str, Any]:
    """Train the heads on each encoder, with each fraction of the labelled documents and each seed.

    Args:
        runs (Runs): The trainings.
        arms (Dict[str, AdaptedEncoder]): What `make_arms` returned.
        settings (CompareSettings): Seeds and fractions.
        echo (Echo): Gets messages.

    Returns:
        Dict[str, Any]: "runs", their "differences" to the base, "arms" with what each cost, "environment".
    """
    setting, base = runs.encoder_setting(), next(iter(arms))
    plan = [
        run for fraction in settings.label_fractions for seed in range(settings.seeds) for arm, encoder in arms.items()
        for run in _runs_of(arm, encoder, seed, fraction, setting, runs)
    ]  # fmt: skip
    contents = {arm: {setting: encoder.weights} for arm, encoder in arms.items()}
    contents |= {_teacher_of(arm): {setting: weights_of(encoder.teacher)} for arm, encoder in arms.items() if encoder.teacher}

    def is_decided(run: TrainingRun, results: List[Result]) -> bool:
        fraction = run.label_fraction
        arm = run.arm.removeprefix(TEACHER)
        if arm != base:
            return is_clear(*paired(results, fraction, base, arm))
        return all(is_clear(*paired(results, fraction, base, arm)) for arm in arms if arm != base)

    results = runs.results(plan, contents, with_auxiliary, echo, is_decided if settings.stop_early else None)
    return {
        "config": runs.config.name, "documents": runs.documents, "seeds": settings.seeds, "stop_early": settings.stop_early,
        "arms": {arm: encoder.cost for arm, encoder in arms.items()},
        "differences": [
            {"arm": arm, "label_fraction": fraction, **row}
            for fraction in settings.label_fractions for arm in arms if arm != base
            for row in difference_rows(*paired(results, fraction, base, arm), ("base", "adapted"))
        ],
        "runs": results, "environment": machine(),
    }  # fmt: skip


TEACHER, AUXILIARY = "teacher: ", "auxiliary tasks beside the heads"


def _teacher_of(arm: str) -> str:
    """The name of the runs whose pipelines teach an arm."""
    return TEACHER + arm


def _runs_of(arm: str, encoder: AdaptedEncoder, seed: int, fraction: float, setting: str, runs: Runs) -> List[TrainingRun]:
    """The run of an arm, after that of its teacher if it has one."""
    changes = {setting: encoder.name}
    if not encoder.teacher:
        return [TrainingRun(arm, seed, fraction, changes, variant=AUXILIARY if encoder.has_auxiliary else "")]
    teacher = TrainingRun(_teacher_of(arm), seed, fraction, {setting: encoder.teacher}, keep=True)
    heads = scored_heads(runs.load_config({}), runs.config.name, 1)
    return [teacher, TrainingRun(arm, seed, fraction, changes, teachers=dict.fromkeys(heads, teacher))]


def with_auxiliary(config: Config, variant: str) -> Config:
    """The config with the auxiliary heads that need no teacher beside the others."""
    config = config.copy()
    sections = config["initialize"]["components"]
    encoder = next(section["encoder_loader"]["name"] for section in sections.values() if "encoder_loader" in section)
    present = {section.get("factory") for section in config["components"].values()}
    for task in task_types():
        if task.is_auxiliary and not task.is_taught and task.factory not in present:
            config["nlp"]["pipeline"] = [*config["nlp"]["pipeline"], task.name]
            config["components"][task.name] = {"factory": task.factory}
            sections[task.name] = task.initialize_settings(encoder)
    return config


def paired(results: List[Result], fraction: float, first: str, second: str) -> Tuple[List[Scores], List[Scores]]:
    """The scores of two arms at a fraction of the labelled documents, with the seeds that both have, in order."""
    by_seed: Dict[str, Dict[int, Scores]] = {first: {}, second: {}}
    for result in results:
        if result["label_fraction"] == fraction and result["arm"] in by_seed:
            by_seed[result["arm"]][result["seed"]] = result["scores"]
    seeds = sorted(set(by_seed[first]) & set(by_seed[second]))
    return [by_seed[first][seed] for seed in seeds], [by_seed[second][seed] for seed in seeds]


def is_clear(first: List[Scores], second: List[Scores]) -> bool:
    """Whether the mean over the heads differs so clearly that no more seeds are needed.

    Haybittle and Peto's rule: before the last seed, only a 99.9% interval without 0 counts, so that looking after every seed
    hardly raises the chance of a false verdict at the end, of a 95% interval.
    """
    before, after = ([run[MEAN] for run in runs if MEAN in run] for runs in (first, second))
    return bool(before) and paired_difference(before, after, EARLY_LEVEL).verdict != UNDECIDED
