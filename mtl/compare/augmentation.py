"""`mtl compare --augmentation`: does the config's augmenter help? Training with it, against training without it."""

from typing import Any, Dict, List

from spacy.util import dot_to_object
from thinc.api import Config

from mtl.compare.differences import difference_rows
from mtl.compare.runs import CompareSettings, Runs, TrainingRun, check_length
from mtl.errors import UserError
from mtl.progress import Echo
from mtl.timing import machine

PLAIN, AUGMENTED = "plain", "augmented"  # the arms


def compare_augmentation(runs: Runs, settings: CompareSettings, echo: Echo) -> Dict[str, Any]:
    """Train with and without the config's augmenter, on each fraction of the labelled documents and with each seed.

    All runs have the same number of steps.

    Args:
        runs (Runs): Runs of the config.
        settings (CompareSettings): Seeds and fractions.
        echo (Echo): Gets messages.

    Returns:
        Dict[str, Any]: "config", "documents", "seeds", "augmenters" (names), "differences" (augmented minus plain), "runs",
        "environment".

    Raises:
        UserError: The config has no augmenter, or no number of steps.
    """
    config = runs.load_config({})
    check_length(config["training"])
    corpus = dot_to_object(config, config["training"]["train_corpus"])
    if not corpus.get("augmenter"):
        raise UserError(f"{runs.config}: [{config['training']['train_corpus']}.augmenter] is not set: nothing to compare")
    plan = [
        TrainingRun(arm, seed, fraction, {}, variant="without the augmenter" if arm == PLAIN else "")
        for fraction in settings.label_fractions for seed in range(settings.seeds) for arm in (PLAIN, AUGMENTED)
    ]  # fmt: skip
    results = runs.results(plan, {}, lambda config, _: without_augmenter(config), echo)
    rows = []
    for fraction in settings.label_fractions:
        plain, augmented = (
            [result["scores"] for result in results if (result["arm"], result["label_fraction"]) == (arm, fraction)]
            for arm in (PLAIN, AUGMENTED)
        )
        differences = difference_rows(plain, augmented, (PLAIN, AUGMENTED))
        rows += [{"arm": AUGMENTED, "label_fraction": fraction, **row} for row in differences]
    return {
        "config": runs.config.name, "documents": runs.documents, "seeds": settings.seeds,
        "augmenters": augmenter_names(corpus["augmenter"]), "differences": rows, "runs": results, "environment": machine(),
    }  # fmt: skip


def augmenter_names(section: Dict[str, Any]) -> List[str]:
    """The registered names of all augmenters in a section of the config."""
    names = [section["@augmenters"]] if "@augmenters" in section else []
    return names + [name for value in section.values() if isinstance(value, dict) for name in augmenter_names(value)]


def without_augmenter(config: Config) -> Config:
    """The config without its augmenter."""
    changed = config.copy()
    dot_to_object(changed, changed["training"]["train_corpus"])["augmenter"] = None
    return changed
