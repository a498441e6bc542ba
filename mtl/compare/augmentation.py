"""Does the config's augmenter help? Training with it, against training without, for as many steps on the same documents."""

from typing import Any, Callable, Dict, List

from spacy.util import dot_to_object
from thinc.api import Config

from mtl.compare.differences import difference_rows
from mtl.compare.runs import CompareSettings, Run, Runs, check_length
from mtl.errors import UserError
from mtl.machine import machine

PLAIN, AUGMENTED = "plain", "augmented"
Echo = Callable[[str], None]


def compare_augmentation(runs: Runs, settings: CompareSettings, echo: Echo) -> Dict[str, Any]:
    """Train with the config's augmenter and without, with each share of the labels and each seed, for as many steps.

    RETURNS: "runs", "differences" of augmented to plain, "augmenters" by name, "environment". RAISES (UserError): the
    config has no augmenter.
    """
    config = runs.loaded({})
    check_length(config["training"])
    corpus = dot_to_object(config, config["training"]["train_corpus"])
    if not corpus.get("augmenter"):
        raise UserError(f"{runs.config}: [{config['training']['train_corpus']}.augmenter] is not set: nothing to compare")
    plan = [
        Run(arm, seed, share, {}, variant="without the augmenter" if arm == PLAIN else "")
        for share in settings.labels for seed in range(settings.seeds) for arm in (PLAIN, AUGMENTED)
    ]  # fmt: skip
    done = runs.results(plan, {}, lambda config, _: without_augmenter(config), echo)
    rows = []
    for share in settings.labels:
        plain, augmented = (
            [run["scores"] for run in done if (run["arm"], run["labels"]) == (arm, share)] for arm in (PLAIN, AUGMENTED)
        )
        rows += [{"arm": AUGMENTED, "labels": share, **row} for row in difference_rows(plain, augmented, (PLAIN, AUGMENTED))]
    return {
        "config": runs.config.name, "documents": runs.documents, "seeds": settings.seeds,
        "augmenters": names_in(corpus["augmenter"]), "differences": rows, "runs": done, "environment": machine(),
    }  # fmt: skip


def names_in(section: Dict[str, Any]) -> List[str]:
    """The augmenters that a section of the config names."""
    own = [section["@augmenters"]] if "@augmenters" in section else []
    return own + [name for value in section.values() if isinstance(value, dict) for name in names_in(value)]


def without_augmenter(config: Config) -> Config:
    """The config with its training documents as they are."""
    changed = config.copy()
    dot_to_object(changed, changed["training"]["train_corpus"])["augmenter"] = None
    return changed
