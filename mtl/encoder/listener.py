"""The node in a head's model that connects it to the shared transformer."""

from typing import TYPE_CHECKING, Any, Callable, Optional, Tuple

from thinc.api import Model

from mtl.errors import UserError

if TYPE_CHECKING:
    from mtl.encoder.component import Transformer


class EncoderListener(Model):
    """Holds the transformer component that its head reads from. spaCy links the two (`find_listeners`).

    Args:
        upstream_name (str): The transformer component's name, or "*" for any.
    """

    def __init__(self, upstream_name: str) -> None:
        super().__init__("mtl-encoder-listener", _no_forward, dims={"nO": None})
        self.upstream_name = upstream_name
        self.transformer: Optional[Transformer] = None

    def copy(self) -> "EncoderListener":
        return EncoderListener(self.upstream_name)


def _no_forward(model: Model, inputs: Any, is_train: bool) -> Tuple[Any, Callable]:
    raise NotImplementedError("a head asks its transformer for vectors directly")


def encoder_listener(upstream: str = "*") -> Model:
    """Architecture `mtl.EncoderListener.v1`: connects a head to a transformer.

    Args:
        upstream (str): The transformer component's name, or "*" for any `mtl_transformer` before the head.
    """
    return EncoderListener(upstream)


def find_transformer(model: Model, component: str) -> "Transformer":
    """The transformer that a head's model is connected to.

    Args:
        model (Model): The head's model.
        component (str): The head's name, for error messages.

    Raises:
        UserError: There is none.
    """
    for node in model.walk():
        if isinstance(node, EncoderListener):
            if node.transformer is None:
                raise UserError(
                    f"the component {component!r} is not connected to a transformer: add an 'mtl_transformer' before it"
                    + ("" if node.upstream_name == "*" else f", with the name {node.upstream_name!r} of its upstream setting")
                )
            return node.transformer
    raise UserError(
        f"the model of the component {component!r} has no encoder listener: set its encoder to "
        f'@architectures = "mtl.EncoderListener.v1"'
    )
