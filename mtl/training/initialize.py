"""A pipeline made and initialized from a training config."""

import logging
from contextlib import contextmanager
from typing import Iterator, List

from spacy.language import Language
from thinc.api import Config

from mtl import compat
from mtl.encoder.component import Transformer
from mtl.errors import UserError

FROZEN_ENCODER = "[W086]"  # "will be (re)trained, but it needs the component ... which is frozen"


def init_pipeline(config: Config) -> Language:
    """Make and initialize a pipeline as `spacy train` does. On the CPU, as far as spaCy's own components are concerned.

    Args:
        config (Config): A training config, not interpolated.

    Raises:
        UserError: The config lacks a setting that spaCy reads before it fills in defaults.
    """
    for setting, usual in (("seed", "0"), ("gpu_allocator", "null")):
        if setting not in config.get("training", {}):
            raise UserError(f"the config has no [training] {setting}: set it, for example {setting} = {usual}")
    with _holding_back(FROZEN_ENCODER) as records:
        nlp = compat.init_nlp(config)
    encoders = [f"'{name}' which is frozen" for name, pipe in nlp.components if isinstance(pipe, Transformer)]
    for record in records:
        if not any(encoder in record.getMessage() for encoder in encoders):  # ours runs for its heads also if it is frozen
            logging.getLogger(record.name).handle(record)
    return nlp


@contextmanager
def _holding_back(code: str) -> Iterator[List[logging.LogRecord]]:
    """Yields the warnings of spaCy with this code, which are not shown."""
    records: List[logging.LogRecord] = []

    def is_shown(record: logging.LogRecord) -> bool:
        if record.getMessage().startswith(code):
            records.append(record)
            return False
        return True

    logger = logging.getLogger("spacy")
    logger.addFilter(is_shown)
    try:
        yield records
    finally:
        logger.removeFilter(is_shown)
