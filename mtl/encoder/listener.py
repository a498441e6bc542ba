"""The node in a head's model that connects it with the shared transformer."""

from typing import TYPE_CHECKING, Any, Callable, Optional, Tuple

from thinc.api import Model

from mtl.errors import UserError

if TYPE_CHECKING:
    from mtl.encoder.component import Transformer


class EncoderListener(Model):
    """Holds the transformer component that its head reads from; spaCy links the two (`find_listeners`)."""

    def __init__(self, upstream_name: str) -> None:
        super().__init__("mtl-encoder-listener", _no_forward, dims={"nO": None})
        self.upstream_name = upstream_name
        self.transformer: Optional[Transformer] = None

    def copy(self) -> "EncoderListener":
        return EncoderListener(self.upstream_name)


def _no_forward(model: Model, inputs: Any, is_train: bool) -> Tuple[Any, Callable]:
    raise NotImplementedError("a head asks its transformer for vectors directly")


def encoder_listener(upstream: str = "*") -> Model:
    """Architecture `mtl.EncoderListener.v1`: connect a head with a transformer.

    upstream (str): the transformer component's name, or "*" for any `mtl_transformer` before the head.
    """
    return EncoderListener(upstream)


def find_transformer(model: Model, component: str) -> "Transformer":
    """The transformer a head's model is connected with. RAISES (UserError): none."""
    for node in model.walk():
        if isinstance(node, EncoderListener):
            if node.transformer is None:
                raise UserError(
                    f"the component {component!r} is connected with no transformer: add an 'mtl_transformer' before it"
                    + ("" if node.upstream_name == "*" else f", named {node.upstream_name!r} as its upstream setting says")
                )
            return node.transformer
    raise UserError(
        f"the component {component!r}: its model has no encoder listener; give it @architectures = mtl.EncoderListener.v1"
    )
