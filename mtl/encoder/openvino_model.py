"""An encoder that predicts with OpenVINO, which is faster on a CPU than torch. No spaCy.

Kernels for products, attention and norms that are made for the processor and fused with what stands around them, in fp32, bf16
or int8: https://docs.openvino.ai. MiniLM's forward pass on two cores with AVX512-BF16 and VNNI takes 0.67, 0.39 and 0.30 of the
time that it takes in torch's fp32.
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

from mtl.encoder.forks import Lock

REQUIREMENT = "openvino>=2026"  # as pyproject.toml has it
# Numbers of an int8 product's input that share a scale, in the texts and in the weights. With VNNI 64 makes MiniLM 5 to 12%
# slower, and 384 strays twice as far. Where there is AMX only the weights are in int8, and 32 costs nothing.
GROUP, GROUP_AMX = 128, 32
HINTS = {"fp32": "f32", "bf16": "bf16"}
CLOSE = 1e-3  # of the largest number: how far a converted encoder may be from torch's, both in fp32


def installed() -> bool:
    return find_spec("openvino") is not None


def _openvino() -> Any:
    """The module, which reports its import and what it converts to its makers over the network where it finds their telemetry."""
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
    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


@contextmanager
def _own_signal_stack() -> Iterator[None]:
    """OpenVINO gives the thread another stack for signals, and frees it with the model, whatever thread does that: the next
    Ctrl-C would then end the process. So the thread keeps the stack that it had.
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
    """What a transformers model computes, called as it is; made of the weights as they are now.

    Threads may share it. It runs as many calls side by side as `for_callers` says, each on its share of torch's threads; a forked
    process compiles it anew, since threads do not survive a fork.
    """

    def __init__(self, model: nn.Module, names: Sequence[str], precision: str, rest: str) -> None:
        """model: its parameters require no gradient. names: the inputs it will be called with. precision: "fp32", "bf16" or
        "int8". rest: that of what int8 leaves.

        RAISES (Exception, of whatever kind): the model cannot be converted, or computes something else once it is.
        """
        self.names = list(names)
        self.graph = _convert(model, self.names)
        self._options: Dict[str, Any] = {"INFERENCE_PRECISION_HINT": HINTS[rest if precision == "int8" else precision]}
        if precision == "int8":
            group = GROUP_AMX if torch.cpu._is_amx_tile_supported() else GROUP
            _quantize(self.graph, group)
            self._options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = group
        self._compiled: Dict[Tuple[int, int, int], _Compiled] = {}
        self._lock = Lock()

    def for_callers(self, count: int) -> "_Compiled":
        """count: of threads that call it at once; one has all of torch's threads to itself."""
        key = os.getpid(), count, torch.get_num_threads()
        with self._lock:
            if key not in self._compiled:
                self._compiled[key] = _Compiled(self.graph, self.names, {**self._options, **_threads(count)})
            return self._compiled[key]


class _Compiled:
    def __init__(self, graph: Any, names: List[str], options: Dict[str, Any]) -> None:
        self.names = names
        with _own_signal_stack():
            self._model = _openvino().Core().compile_model(graph, "CPU", options)
        self._idle: SimpleQueue = SimpleQueue()  # of requests, each with the memory that a call works in
        _alive.add(self)

    def __call__(self, attention_mask: Tensor, **inputs: Tensor) -> BaseModelOutput:
        """As the model's own `forward`. attention_mask: (batch, length), or (batch, 1, length)."""
        inputs["attention_mask"] = attention_mask.flatten(1)
        try:
            request = self._idle.get_nowait()
        except Empty:
            request = self._model.create_infer_request()
        found = request.infer([inputs[name].numpy() for name in self.names], share_inputs=True)[0]
        self._idle.put(request)
        return BaseModelOutput(last_hidden_state=torch.from_numpy(found))


_alive: "weakref.WeakSet[_Compiled]" = weakref.WeakSet()


def _after_fork() -> None:
    """To free a model is to wait for its threads, which the new process has not got: there it stays."""
    for one in _alive:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _threads(count: int) -> Dict[str, Any]:
    # Pinned to processors, two processes would meet on the same ones.
    return {"NUM_STREAMS": count, "INFERENCE_NUM_THREADS": torch.get_num_threads(), "ENABLE_CPU_PINNING": False}


def _convert(model: nn.Module, names: List[str]) -> Any:
    """OpenVINO's graph of the model, for any batch and length. model: without parameters that require a gradient."""
    _openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    def called(*inputs: Tensor) -> Tensor:
        return model(**dict(zip(names, inputs))).last_hidden_state

    with torch.inference_mode(), _quiet():
        # As torch's ONNX exporter traces: torch.jit.trace would keep what it makes of the module, 6 MB of MiniLM's each time.
        traced, _ = torch.jit._get_trace_graph(called, _example(model, names, 2, 12))
        torch._C._jit_pass_inline(traced)  # DeBERTa calls compiled functions, with conditions on what is constant here
        torch._C._jit_pass_constant_propagation(traced)
        decoder = TorchScriptPythonDecoder(None, traced, alias_db=traced.alias_db())
        frontend = FrontEndManager().load_by_framework("pytorch")
        graph = frontend.convert(frontend.load(decoder))
        example = _example(model, names, 3, 17)  # what tracing took for a constant shows at another size
        expected, mask = called(*example), example[names.index("attention_mask")]
        options = {"INFERENCE_PRECISION_HINT": "f32", **_threads(1)}
        found = _Compiled(graph, names, options)(**dict(zip(names, example))).last_hidden_state
    apart = (found - expected)[mask.bool()].abs().max()
    if expected.isfinite().all() and not apart <= CLOSE * expected.abs().max():
        raise ValueError(f"its outputs are {apart:.3g} from those before it was converted")
    return graph


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch and transformers say of tracing; whether it went well is looked at."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            yield
    finally:
        logger.setLevel(level)


def _example(model: nn.Module, names: List[str], batch: int, length: int) -> Tuple[Tensor, ...]:
    """Inputs of the given size, of which the last text is shorter."""
    ids = torch.arange(batch * length).view(batch, length) * 7 % int(model.config.vocab_size)  # type: ignore[union-attr, arg-type]
    mask = torch.ones_like(ids)
    mask[-1, length // 2 :] = 0
    known = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    return tuple(known[name] for name in names)


def _quantize(graph: Any, group: int) -> None:
    """In place: the weights of linear layers become int8, with a scale for each output and `group` of inputs.

    What meets them is then made int8 as it comes, with a scale for each row and group (ZeroQuant, Yao et al. 2022), so that a
    wordpiece's vector does not depend on what else is in the batch. Where AMX multiplies bf16, it stays that.
    """
    from openvino import opset13 as ops
    from openvino.passes import ConstantFolding, Manager

    manager = Manager()
    manager.register_pass(ConstantFolding())  # DeBERTa multiplies weights with positions, which is no layer of the texts
    manager.run_passes(graph)
    for product in graph.get_ordered_ops():
        if product.get_type_name() != "MatMul" or product.input_value(1).get_node().get_type_name() != "Constant":
            continue
        weight = np.asarray(product.input_value(1).get_node().data, np.float32)
        if weight.ndim == 2:
            by_output = weight if product.get_attributes()["transpose_b"] else weight.T
            outputs, inputs = by_output.shape
            grouped = by_output.reshape(outputs, -1, group if inputs % group == 0 else inputs)
            scales = np.maximum(np.abs(grouped).max(2, keepdims=True) / 127, np.finfo(np.float32).tiny)
            whole = ops.constant(np.round(grouped / scales).astype(np.int8))
            near = ops.multiply(ops.convert(whole, "f32"), ops.constant(scales))
            near = ops.reshape(near, ops.constant(np.array([outputs, inputs])), False)
            if by_output is not weight:
                near = ops.transpose(near, ops.constant(np.array([1, 0])))
            product.input(1).replace_source_output(near.output(0))
    graph.validate_nodes_and_infer_types()
