"""Stock listeners on our encoder. The only module that imports spacy-transformers, and only when one attaches."""

from typing import Any, Callable, List, Sequence

import numpy as np
import torch
from spacy.tokens import Doc
from thinc.api import Model, get_current_ops

from mtl.encoder.batch import EncoderBatch
from mtl.encoder.torch_encoder import TokenVectors


def is_stock_listener(node: Model) -> bool:
    """Whether a thinc node is spacy-transformers' `TransformerListener` (told by name first, to spare the import)."""
    if node.name != "transformer-listener":
        return False
    from spacy_transformers.layers.listener import TransformerListener
    from spacy_transformers.pipeline_component import install_extensions

    install_extensions()  # a listener reads `doc._.trf_data` before any Doc was annotated
    return isinstance(node, TransformerListener)


def annotate(docs: Sequence[Doc], vectors: TokenVectors) -> None:
    """Set `doc._.trf_data`, where stock listeners look in predictions."""
    for doc, data in zip(docs, _transformer_data(vectors)):
        doc._.trf_data = data


def clear(docs: Sequence[Doc]) -> None:
    """Drop `doc._.trf_data`."""
    for doc in docs:
        doc._.trf_data = None


def send(listener: Any, task: str, docs: Sequence[Doc], batch: EncoderBatch) -> None:
    """Hand a stock listener its vectors for an update, with a callback that collects the gradient as `task`'s."""
    vectors = batch.vectors([(i, None) for i in range(len(docs))])
    leaf = vectors.vectors
    listener.receive(listener.get_batch_id(docs), _transformer_data(vectors), _backprop(leaf, vectors.lengths, task, batch))


def _backprop(leaf: torch.Tensor, lengths: np.ndarray, task: str, batch: EncoderBatch) -> Callable:
    def backprop(d_datas: List[Any]) -> None:
        rows = [np.asarray(_to_numpy(data.tensors[0])).reshape(-1, leaf.shape[-1]) for data in d_datas]
        gradient = np.concatenate(rows) if rows else np.zeros((0, leaf.shape[-1]), dtype="f")
        leaf.backward(torch.from_numpy(gradient).to(leaf.device, leaf.dtype))
        batch.collect(task, None)

    return backprop


def _to_numpy(array: Any) -> Any:
    return array.get() if hasattr(array, "get") else array


def _transformer_data(vectors: TokenVectors) -> List[Any]:
    """One `TransformerData` a document, in which every token is one wordpiece."""
    from spacy_transformers.data_classes import TransformerData, WordpieceBatch
    from thinc.types import Ragged
    from transformers.file_utils import ModelOutput

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
