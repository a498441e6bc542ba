"""How a transformer component is saved: its settings, and the encoder as a Hugging Face folder."""

import tempfile
from pathlib import Path
from typing import Any, Dict, Iterable, Union

import srsly
from spacy import util
from thinc.api import Model

from mtl import __version__
from mtl.encoder.loaders import load_encoder, save_encoder
from mtl.encoder.model.encoder import Encoder
from mtl.errors import UserError
from mtl.files import read_json, write_json

FORMAT = 1  # of a saved pipeline; raised when an older spacy-mtl can no longer read it


class SavedEncoder:
    """Mixin of the transformer component."""

    cfg: Dict[str, Any]
    model: Model
    set_encoder: Any

    @property
    def encoder(self) -> Encoder:
        raise NotImplementedError

    def to_disk(self, path: Union[str, Path], *, exclude: Iterable[str] = ()) -> None:
        """Write `cfg` and, if there are weights yet, the Hugging Face folder `encoder`."""
        cfg = {**self.cfg, "format": FORMAT, "saved_by": __version__, "has_weights": bool(self.model.shims)}
        serialize = {"cfg": lambda p: write_json(p, cfg)}
        if cfg["has_weights"]:
            serialize["encoder"] = lambda p: save_encoder(self.encoder, p)
        util.to_disk(path, serialize, exclude)

    def from_disk(self, path: Union[str, Path], *, exclude: Iterable[str] = ()) -> Any:
        """Read what `to_disk` wrote.

        Raises:
            UserError: A file is missing or damaged, or a later spacy-mtl is needed.
        """
        deserialize = {
            "cfg": lambda p: self._load_cfg(read_json(p)),
            "encoder": lambda p: self.set_encoder(*load_encoder(p)) if self.cfg.get("has_weights", True) else None,
        }
        util.from_disk(path, deserialize, exclude)
        return self

    def _load_cfg(self, saved: Dict[str, Any]) -> None:
        if saved.get("format", 1) > FORMAT:
            raise UserError(
                f"the pipeline was saved by spacy-mtl {saved.get('saved_by')}; this is {__version__}, which cannot read it: "
                f"pip install 'spacy-mtl>={saved.get('saved_by')}'"
            )
        self.cfg.update(saved)

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        """The files of `to_disk` as msgpack."""
        with tempfile.TemporaryDirectory() as folder:
            self.to_disk(folder, exclude=exclude)
            root = Path(folder)
            files = {file.relative_to(root).as_posix(): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}
        return srsly.msgpack_dumps(files)

    def from_bytes(self, bytes_data: bytes, *, exclude: Iterable[str] = ()) -> Any:
        """Read what `to_bytes` wrote."""
        with tempfile.TemporaryDirectory() as folder:
            for name, data in srsly.msgpack_loads(bytes_data).items():
                file = Path(folder) / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
            return self.from_disk(folder, exclude=exclude)
