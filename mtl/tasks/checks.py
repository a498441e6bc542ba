"""What is checked before training, and concerns a head together with the rest of its pipeline."""

import logging
from typing import Any, Callable, Iterable, Set

from spacy.language import Language
from spacy.training import Example

from mtl.errors import UserError
from mtl.registry import heads_of

logger = logging.getLogger(__name__)

SAMPLE = 100  # examples that are looked at


def check_places(nlp: Language, head: Any) -> None:
    """Check that no other head of the pipeline writes where this one does.

    Raises:
        UserError: One does.
    """
    for name, other in heads_of(nlp).items():
        shared = sorted(head.places() & other.places()) if other is not head else []
        if shared:
            more = f" and {len(shared) - 3} more" if len(shared) > 3 else ""
            raise UserError(
                f"the heads {name!r} and {head.name!r} would both write {', '.join(shared[:3])}{more}, and the later one would "
                f"overwrite the other's. Give labels and keys other names in the data or the config, or name the labels of each "
                f"head in [initialize.components.{head.name}] labels"
            )


def check_score_weights(nlp: Language) -> None:
    """Check that every score with a weight is one that some component reports.

    A default of a head's factory that does not fit the head's settings, such as "score_spearman" of a regressor with another key,
    is only warned of: without a config file nobody has chosen it.

    Raises:
        UserError: It would be 0 at every evaluation, and the best model be chosen without it.
    """
    weights = nlp.config.get("training", {}).get("score_weights", {})
    heads = heads_of(nlp)
    reported: Set[str] = {name for head in heads.values() for name in head.score_names()}
    defaults: Set[str] = set()
    for name, pipe in nlp.pipeline:
        by_factory = nlp.get_pipe_meta(name).default_score_weights or {}
        if name in heads:
            defaults |= {score for score, weight in by_factory.items() if weight}
        elif by_factory:
            reported |= set(by_factory)
        elif hasattr(pipe, "score") and not hasattr(pipe, "listening_components"):
            return  # it may report anything
    unknown = sorted(name for name, weight in weights.items() if weight and name not in reported)
    if not unknown:
        return
    message = (
        f"[training.score_weights] {', '.join(unknown)}: no component of the pipeline reports it with these settings; the scores "
        f"there are {', '.join(sorted(reported))}"
    )
    if set(unknown) - defaults:
        raise UserError(message)
    if not any(score in reported for score in defaults):
        logger.warning("%s", message)


def check_augmenters(nlp: Language, head: Any, get_examples: Callable[[], Iterable[Example]]) -> None:
    """Check that no augmenter of spaCy's readers drops the head's annotation.

    Such an augmenter rebuilds a document from `Example.to_dict`, which knows entities, categories and tags, and not what else
    is in `doc.spans`. Our own reader carries it over: see `mtl.sampling.augmented`.

    Raises:
        UserError: One would.
    """
    for name, corpus in nlp.config.get("corpora", {}).items():
        augmenter = corpus.get("augmenter") if isinstance(corpus, dict) else None
        if not augmenter or str(corpus.get("@readers", "")).startswith("mtl."):
            continue
        annotated = (eg for _, eg in zip(range(SAMPLE), get_examples()) if head.is_annotated(eg.reference))
        example = next(annotated, None)
        if example is not None and not head.is_annotated(Example.from_dict(example.predicted, example.to_dict()).reference):
            raise UserError(
                f"[corpora.{name}.augmenter] {augmenter.get('@augmenters', '')}: it would drop the annotation for the head "
                f"{head.name!r} from the documents it changes. Use the reader mtl.MultiTaskCorpus.v1, whose augmenter setting "
                f"keeps it"
            )
