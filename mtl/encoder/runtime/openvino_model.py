"""An encoder that predicts with OpenVINO, which is faster on a CPU than torch. No spaCy.

Its kernels for matrix products, attention and norms are made for the processor and fused with the operations around them, in
fp32, bf16 or int8: https://docs.openvino.ai. MiniLM's forward pass on two cores with AVX512-BF16 and VNNI takes 0.67, 0.39 and
0.30 of the time that it takes in torch's fp32.
"""

import ctypes
import logging
import os
import sys
import warnings
import weakref
from contextlib import contextmanager
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from mtl import compat
from mtl.encoder.runtime.processes import Lock

REQUIREMENT = "openvino>=2026"  # the same as in pyproject.toml
# Inputs of an int8 product that share a scale, in the activations and in the weights. With VNNI, 64 makes MiniLM 5 to 12% slower,
# and 384 doubles the error. With AMX only the weights are int8, and 32 costs nothing.
GROUP_SIZE, GROUP_SIZE_AMX = 128, 32
HINTS = {"fp32": "f32", "bf16": "bf16"}
TOLERANCE = 1e-3  # largest error of a converted encoder, as a fraction of torch's largest output, both in fp32


def is_installed() -> bool:
    """Whether OpenVINO is installed."""
    return find_spec("openvino") is not None


def _openvino() -> Any:
    """The module, imported without its telemetry.

    If it finds the package `openvino_telemetry`, it reports its import, and what it converts, to its makers over the network.
    """
    if "openvino" not in sys.modules:
        before = sys.modules.get("openvino_telemetry")
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # as if it were not installed
        try:
            import openvino  # noqa: F401
        finally:
            del sys.modules["openvino_telemetry"]
            if before is not None:
                sys.modules["openvino_telemetry"] = before
    return sys.modules["openvino"]


class _SignalStack(ctypes.Structure):
    """The stack that a thread runs signal handlers on, as the C library describes it."""

    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


@contextmanager
def _keep_signal_stack() -> Iterator[None]:
    """Let the thread keep its stack for signals.

    OpenVINO gives the thread another one, and frees it with the model, in whatever thread that happens: the next Ctrl-C would
    then end the process.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    libc, before = ctypes.CDLL(None), _SignalStack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)


class OpenVINOModel:
    """A transformers model converted with its present weights. It is called like the model itself, through `for_callers`.

    Threads may share it. It runs as many calls side by side as `for_callers` is told, each on its share of torch's threads. A
    forked process compiles it again, since threads do not survive a fork.

    Args:
        model (nn.Module): The model; its parameters require no gradient.
        names (Sequence[str]): The inputs it will be called with.
        precision (str): "fp32", "bf16" or "int8".
        other_precision (str): The precision of what int8 does not cover.

    Raises:
        Exception: Of any type. The model cannot be converted, or computes something else after the conversion.
    """

    def __init__(self, model: nn.Module, names: Sequence[str], precision: str, other_precision: str) -> None:
        self.names = list(names)
        self.graph = _convert(model, self.names)
        hint = HINTS[other_precision if precision == "int8" else precision]
        self._options: Dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint}
        if precision == "int8":
            group_size = GROUP_SIZE_AMX if compat.cpu_has_amx() else GROUP_SIZE
            _quantize(self.graph, group_size)
            self._options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = group_size
        self._compiled: Dict[Tuple[int, int, int], _Compiled] = {}
        self._lock = Lock()

    def for_callers(self, count: int) -> "_Compiled":
        """What to call.

        Args:
            count (int): How many threads call it side by side. A single one gets all of torch's threads.
        """
        key = os.getpid(), count, torch.get_num_threads()
        with self._lock:
            if key not in self._compiled:
                self._compiled[key] = _Compiled(self.graph, self.names, {**self._options, **_thread_options(count)})
            return self._compiled[key]


class _Compiled:
    def __init__(self, graph: Any, names: List[str], options: Dict[str, Any]) -> None:
        self.names = names
        with _keep_signal_stack():
            self._model = _openvino().Core().compile_model(graph, "CPU", options)
        self._idle: SimpleQueue = SimpleQueue()  # of requests, each with the memory that a call works in
        _alive.add(self)

    def __call__(self, attention_mask: Tensor, **inputs: Tensor) -> BaseModelOutput:
        """Like the model's own `forward`. The attention mask has the shape (batch, length) or (batch, 1, length)."""
        inputs["attention_mask"] = attention_mask.flatten(1)
        try:
            request = self._idle.get_nowait()
        except Empty:
            request = self._model.create_infer_request()
        hidden = request.infer([inputs[name].numpy() for name in self.names], share_inputs=True)[0]
        self._idle.put(request)
        return BaseModelOutput(last_hidden_state=torch.from_numpy(hidden))


_alive: "weakref.WeakSet[_Compiled]" = weakref.WeakSet()


def _after_fork() -> None:
    """Never free the parent's models in a child process: that would wait for their threads, which do not exist there."""
    for compiled in _alive:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(compiled))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _thread_options(count: int) -> Dict[str, Any]:
    # If threads were pinned to processors, those of two processes would be pinned to the same ones.
    return {"NUM_STREAMS": count, "INFERENCE_NUM_THREADS": torch.get_num_threads(), "ENABLE_CPU_PINNING": False}


def _convert(model: nn.Module, names: List[str]) -> Any:
    """OpenVINO's graph of a model whose parameters require no gradient, for any batch size and length."""
    _openvino()
    from openvino.frontend import FrontEndManager

    def last_hidden_state(*inputs: Tensor) -> Tensor:
        return model(**dict(zip(names, inputs))).last_hidden_state

    with torch.inference_mode(), _quiet():
        decoder = compat.torchscript_decoder(compat.trace_graph(last_hidden_state, _example_inputs(model, names, 2, 12)))
        frontend = FrontEndManager().load_by_framework("pytorch")
        graph = frontend.convert(frontend.load(decoder))
        inputs = _example_inputs(model, names, 3, 17)  # another size shows what tracing took for a constant
        expected, mask = last_hidden_state(*inputs), inputs[names.index("attention_mask")]
        options = {"INFERENCE_PRECISION_HINT": "f32", **_thread_options(1)}
        converted = _Compiled(graph, names, options)(**dict(zip(names, inputs))).last_hidden_state
    error = (converted - expected)[mask.bool()].abs().max()
    if expected.isfinite().all() and not error <= TOLERANCE * expected.abs().max():
        raise ValueError(f"its outputs differ by {error:.3g} from those before the conversion")
    return graph


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of torch and transformers about tracing; `_convert` checks the result."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            yield
    finally:
        logger.setLevel(level)


def _example_inputs(model: nn.Module, names: List[str], batch: int, length: int) -> Tuple[Tensor, ...]:
    """Inputs of a size; the last text of the batch is shorter."""
    ids = torch.arange(batch * length).view(batch, length) * 7 % int(model.config.vocab_size)  # type: ignore[union-attr, arg-type]
    mask = torch.ones_like(ids)
    mask[-1, length // 2 :] = 0
    by_name = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    return tuple(by_name[name] for name in names)


def _quantize(graph: Any, group_size: int) -> None:
    """Make the weights of linear layers int8, in place, with a scale for each output and `group_size` inputs.

    OpenVINO then quantizes the activations at runtime, with a scale for each row and group (ZeroQuant, Yao et al. 2022), so that
    the vector of a subword does not depend on the rest of the batch. On a processor whose AMX multiplies bf16 they stay bf16.
    """
    from openvino import opset13 as ops
    from openvino.passes import ConstantFolding, Manager

    manager = Manager()
    manager.register_pass(ConstantFolding())  # DeBERTa multiplies weights with positions, which is not a layer over the texts
    manager.run_passes(graph)
    for product in graph.get_ordered_ops():
        if product.get_type_name() != "MatMul" or product.input_value(1).get_node().get_type_name() != "Constant":
            continue
        weight = np.asarray(product.input_value(1).get_node().data, np.float32)
        if weight.ndim == 2:
            by_output = weight if product.get_attributes()["transpose_b"] else weight.T
            outputs, inputs = by_output.shape
            grouped = by_output.reshape(outputs, -1, group_size if inputs % group_size == 0 else inputs)
            scales = np.maximum(np.abs(grouped).max(2, keepdims=True) / 127, np.finfo(np.float32).tiny)
            quantized = ops.constant(np.round(grouped / scales).astype(np.int8))
            approximate = ops.multiply(ops.convert(quantized, "f32"), ops.constant(scales))
            approximate = ops.reshape(approximate, ops.constant(np.array([outputs, inputs])), False)
            if by_output is not weight:
                approximate = ops.transpose(approximate, ops.constant(np.array([1, 0])))
            product.input(1).replace_source_output(approximate.output(0))
    graph.validate_nodes_and_infer_types()
