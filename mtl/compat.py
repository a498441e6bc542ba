"""Every private or undocumented name of a dependency that we use, in one place, with the reason.

`tests/test_compat.py` has a test for each function here, so that an upgrade that breaks one of them fails with its name.
"""

import json
from typing import Any, Callable, Dict, List, Tuple

import torch
from torch import Tensor, nn

# torch: what the processor can do. There is no public way to ask.


def cpu_has_bf16_products() -> bool:
    """Whether an x86 processor multiplies bfloat16 natively (AVX512-BF16 or AMX)."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def cpu_has_amx() -> bool:
    """Whether the processor has AMX tiles."""
    return torch.cpu._is_amx_tile_supported()


def cpu_has_vnni() -> bool:
    """Whether the processor multiplies int8 natively."""
    return torch.cpu._is_vnni_supported()


def onednn_has_bf16() -> bool:
    """Whether oneDNN, torch's CPU library, supports bfloat16 on this processor."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


# torch: linear layers with prepacked weights. `nn.Linear` repacks its weights for every call.


def pack_linear_weight(weight: Tensor) -> Any:
    """The weight in the layout of oneDNN's matrix kernel."""
    return torch.ops.mkldnn._reorder_linear_weight(weight, None)


def packed_linear(inputs: Tensor, packed: Any, bias: Any, activation: str, algorithm: str) -> Tensor:
    """A linear layer on a packed weight, with the activation applied while the output is in registers."""
    return torch.ops.mkldnn._linear_pointwise(inputs, packed, bias, activation, [], algorithm)


# torch: watching a module for changes without walking it again.


def module_members(module: nn.Module) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """The dicts that hold a module's children and parameters."""
    return module._modules, module._parameters


def tensor_version(tensor: Tensor) -> int:
    """How often the tensor was changed in place. A tensor made in inference mode has no count, and cannot be trained."""
    return 0 if tensor.is_inference() else tensor._version


# torch: tracing. `torch.jit.trace` keeps 6 MB of MiniLM alive at every call; this is what the ONNX exporter uses.


def trace_graph(function: Callable[..., Tensor], inputs: Tuple[Tensor, ...]) -> Any:
    """The TorchScript graph of a function, with calls inlined and constants folded."""
    graph, _ = torch.jit._get_trace_graph(function, inputs)
    torch._C._jit_pass_inline(graph)  # DeBERTa calls compiled functions, whose conditions are constant here
    torch._C._jit_pass_constant_propagation(graph)
    return graph


def in_bad_fork() -> bool:
    """Whether this is a fork of a process that has used CUDA, in which CUDA cannot be used."""
    return torch.cuda._is_in_bad_fork()


# OpenVINO


def torchscript_decoder(graph: Any) -> Any:
    """OpenVINO's reader of a TorchScript graph. `openvino.convert_model` would trace once more, with `torch.jit.trace`."""
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    return TorchScriptPythonDecoder(None, graph, alias_db=graph.alias_db())


# transformers


def init_weights(model: Any, module: nn.Module) -> None:
    """Give a module the random weights that the architecture starts with."""
    model._init_weights(module)


def clear_name_or_path(config: Any) -> None:
    """Forget where a checkpoint was loaded from; `save_pretrained` would write that path of this machine."""
    config._name_or_path = ""


def attention_implementation(config: Any) -> str:
    """The attention kernel of a loaded model: "sdpa", "eager", ..."""
    return getattr(config, "_attn_implementation", None) or ""


def has_masked_lm_form(model_type: str) -> bool:
    """Whether the architecture has an `AutoModelForMaskedLM`. The public mapping imports every architecture."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def linear_layer_types() -> Tuple[type, ...]:
    """Layers that are linear; GPT-2 has its own transposed one."""
    from transformers.pytorch_utils import Conv1D

    return nn.Linear, Conv1D


# tokenizers


def tokenizer_part_types(part: Any, sequence_key: str) -> List[str]:
    """Type names of a normalizer or pre-tokenizer, or of the members of a sequence. Only the pickled state tells.

    Args:
        part (Any): A normalizer or pre-tokenizer, or None.
        sequence_key (str): Where a sequence has its members: "normalizers" or "pretokenizers".
    """
    if part is None:
        return []
    try:
        state = json.loads(part.__getstate__())
    except Exception:  # a part written in Python raises a bare exception
        return ["Python"]
    return [member["type"] for member in state.get(sequence_key, [state])]


# spaCy: the parts of `spacy train`, `spacy package` and their command line. They are importable but not documented.


def training_loop() -> Any:
    """The module with spaCy's training loop: `train`, `train_while_improving`, `create_train_batches`, `update_meta`, ..."""
    from spacy.training import loop

    return loop


def init_nlp(config: Any, use_gpu: int = -1) -> Any:
    """Make and initialize a pipeline from a training config."""
    from spacy.training.initialize import init_nlp as spacy_init_nlp

    return spacy_init_nlp(config, use_gpu=use_gpu)


def training_schema() -> Any:
    """The schema of the [training] section."""
    from spacy.schemas import ConfigSchemaTraining

    return ConfigSchemaTraining


def parse_config_overrides(arguments: List[str]) -> Dict[str, Any]:
    """Command-line overrides such as `--training.max_steps 100`, as `spacy train` reads them."""
    from spacy.cli._util import parse_config_overrides as spacy_parse

    return spacy_parse(list(arguments))  # it empties its argument


def package_pipeline(pipeline: Any, out: Any, **kwargs: Any) -> None:
    """`spacy package` as a function."""
    from spacy.cli.package import package

    package(pipeline, out, **kwargs)


def shim_module(shim: Any) -> nn.Module:
    """The torch module in a thinc shim."""
    return shim._model
