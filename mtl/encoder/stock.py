"""Stock listeners on our encoder. The only module that imports spacy-transformers, and only when one attaches."""

from typing import Any, Callable, List, Sequence

import numpy as np
import torch
from spacy.tokens import Doc
from thinc.api import Model, get_current_ops

from mtl.encoder.batch import EncoderBatch
from mtl.encoder.model.vectors import TokenVectors


def is_stock_listener(node: Model) -> bool:
    """Whether a thinc node is spacy-transformers' `TransformerListener`. The name is checked first, to avoid the import."""
    if node.name != "transformer-listener":
        return False
    from spacy_transformers.layers.listener import TransformerListener
    from spacy_transformers.pipeline_component import install_extensions

    install_extensions()  # a listener reads `doc._.trf_data` before any Doc is annotated
    return isinstance(node, TransformerListener)


def annotate(docs: Sequence[Doc], vectors: TokenVectors) -> None:
    """Set `doc._.trf_data`, which stock listeners read in predictions.

    Args:
        docs (Sequence[Doc]): The Docs.
        vectors (TokenVectors): One item for each.
    """
    for doc, data in zip(docs, _transformer_data(vectors)):
        doc._.trf_data = data


def send(listener: Any, task: str, docs: Sequence[Doc], batch: EncoderBatch) -> None:
    """Give a stock listener its vectors for an update, with a callback that collects the gradient.

    Args:
        listener (Any): The listener.
        task (str): Name of its component, which the gradient is collected for.
        docs (Sequence[Doc]): All Docs of the batch.
        batch (EncoderBatch): Their encodings.
    """
    vectors = batch.vectors([(i, None) for i in range(len(docs))])
    backprop = _backprop(vectors.vectors, task, batch)
    listener.receive(listener.get_batch_id(docs), _transformer_data(vectors), backprop)


def _backprop(leaf: torch.Tensor, task: str, batch: EncoderBatch) -> Callable:
    """The callback of an update: moves the listener's gradient to the leaf, and collects it for the task."""

    def backprop(d_datas: List[Any]) -> None:
        rows = [np.asarray(_to_numpy(data.tensors[0])).reshape(-1, leaf.shape[-1]) for data in d_datas]
        gradient = np.concatenate(rows) if rows else np.zeros((0, leaf.shape[-1]), dtype="f")
        leaf.backward(torch.from_numpy(gradient).to(leaf.device, leaf.dtype))
        batch.collect(task, None)

    return backprop


def _to_numpy(array: Any) -> Any:
    """The array on the CPU, if it is CuPy's."""
    return array.get() if hasattr(array, "get") else array


def _transformer_data(vectors: TokenVectors) -> List[Any]:
    """One `TransformerData` for each document, in which every token is one subword."""
    from spacy_transformers.data_classes import TransformerData, WordpieceBatch
    from thinc.types import Ragged
    from transformers.utils import ModelOutput

    ops: Any = get_current_ops()
    array = vectors.vectors.detach().cpu().numpy()
    datas = []
    for start, length in zip(vectors.starts, vectors.lengths):
        if not length:
            datas.append(TransformerData.empty())
            continue
        output = ModelOutput(last_hidden_state=ops.asarray(array[start : start + length][None]))
        align = Ragged(ops.asarray(np.arange(length, dtype="i")), ops.asarray(np.ones(length, dtype="i")))
        datas.append(TransformerData(wordpieces=WordpieceBatch.zeros([int(length)]), model_output=output, align=align))
    return datas
