"""How a head is saved: its settings as JSON, its weights as safetensors."""

import json
from pathlib import Path
from typing import Any, Callable, ClassVar, Dict, Iterable, Tuple, Union

import safetensors.torch
from safetensors import SafetensorError
from spacy import util
from thinc.api import Model

from mtl.errors import UserError
from mtl.files import read_json, write_json
from mtl.torch_model import state_of


class SavedHead:
    """Mixin of `Head`."""

    name: str
    cfg: Dict[str, Any]
    model: Model
    module: Any
    learned_settings: ClassVar[Tuple[str, ...]]
    _build: Callable[..., None]

    def to_disk(self, path: Union[str, Path], *, exclude: Iterable[str] = ()) -> None:
        """Write `cfg` and, if there are weights yet, `model.safetensors`."""
        serialize = {"cfg": lambda p: write_json(p, self.cfg)}
        if self.model.shims:
            serialize["model.safetensors"] = lambda p: safetensors.torch.save_file(state_of(self.module), p)
        util.to_disk(path, serialize, exclude)

    def from_disk(self, path: Union[str, Path], *, exclude: Iterable[str] = ()) -> Any:
        """Read what `to_disk` wrote.

        Raises:
            UserError: A file is missing or damaged.
        """
        deserialize = {
            "cfg": lambda p: self._load_cfg(read_json(p)),
            "model.safetensors": lambda p: self._load_weights(safetensors.torch.load_file, p),
        }
        util.from_disk(path, deserialize, exclude)
        return self

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        """What `to_disk` writes, as bytes."""
        serialize = {"cfg": lambda: json.dumps(self.cfg).encode("utf8")}
        if self.model.shims:
            serialize["model.safetensors"] = lambda: safetensors.torch.save(state_of(self.module))
        return util.to_bytes(serialize, exclude)

    def from_bytes(self, bytes_data: bytes, *, exclude: Iterable[str] = ()) -> Any:
        """Read what `to_bytes` wrote."""
        deserialize = {
            "cfg": lambda b: self._load_cfg(json.loads(b)),
            "model.safetensors": lambda b: self._load_weights(safetensors.torch.load, b),
        }
        util.from_bytes(bytes_data, deserialize, exclude)
        return self

    def _load_cfg(self, saved: Dict[str, Any]) -> None:
        """Take what training has decided; other settings come from the config, also at load."""
        self.cfg.update({key: saved[key] for key in self.learned_settings if key in saved})

    def _load_weights(self, read: Callable, source: Any) -> None:
        if self.cfg["width"] is None:  # saved before it was initialized
            return
        where = source if isinstance(source, Path) else f"the bytes of {self.name!r}"
        try:
            tensors = read(source)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{where}: the weights cannot be read ({error}); copy or install the pipeline again") from error
        self._build()
        try:
            self.module.load_state_dict(tensors)
        except RuntimeError as error:
            raise UserError(f"{where}: the weights do not fit the settings of {self.name!r}: {error}") from error
