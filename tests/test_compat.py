"""The private and undocumented names of our dependencies, one test for each function of `mtl/compat.py`.

If an upgrade breaks one of them, the test with its name fails.
"""

import ast
import copy
import inspect
import os
import platform
import re
from pathlib import Path
from typing import Iterator, List, Set

import numpy as np
import pytest
import spacy
import torch
from click.exceptions import NoSuchOption
from conftest import ROOT, byte_tokenizer, save_tiny, unigram_tokenizer, wordpiece_tokenizer
from spacy.tokens import DocBin
from thinc.api import Config
from tokenizers import normalizers, pre_tokenizers
from transformers import AutoModel

from mtl import compat
from mtl.encoder.runtime.openvino_model import _openvino, is_installed
from mtl.encoder.runtime.precision import is_x86
from mtl.torch_model import set_module, torch_model

PACKAGE = ROOT / "mtl"
FOREIGN = ("torch", "transformers", "spacy", "spacy_transformers", "thinc", "tokenizers", "openvino", "datasets", "peft")


@pytest.fixture
def cpu_flags():
    """What Linux says that the processor can do."""
    info = Path("/proc/cpuinfo")
    if platform.machine() not in ("x86_64", "AMD64") or not info.exists():
        pytest.skip("the features of the processor are only known on Linux on x86")
    return set(re.search(r"^flags\s*:(.*)$", info.read_text(), re.M).group(1).split())


@pytest.fixture
def model(tmp_path):
    return AutoModel.from_pretrained(save_tiny("bert", tmp_path / "encoder"))


# torch


def test_cpu_has_bf16_products(cpu_flags):
    assert compat.cpu_has_bf16_products() == bool({"avx512_bf16", "amx_tile"} & cpu_flags)


def test_cpu_has_amx(cpu_flags):
    assert compat.cpu_has_amx() in ((True, False) if "amx_tile" in cpu_flags else (False,))  # the system may forbid its use


def test_cpu_has_vnni(cpu_flags):
    assert compat.cpu_has_vnni() == ("avx512_vnni" in cpu_flags) or "avx_vnni" in cpu_flags


def test_onednn_has_bf16(cpu_flags):
    """oneDNN also emulates it with AVX-512."""
    assert compat.onednn_has_bf16() == (torch.backends.mkldnn.is_available() and {"avx512bw", "avx512dq"} <= cpu_flags)


with_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or not is_x86(),
    reason="needs oneDNN, on x86",
)


@with_onednn
@pytest.mark.parametrize("rows", [1, 33])
def test_pack_linear_weight(rows):
    """A packed weight gives the same products."""
    weight, inputs = torch.randn(7, 16), torch.randn(rows, 16)
    outputs = compat.packed_linear(inputs, compat.pack_linear_weight(weight), None, "none", "")
    torch.testing.assert_close(outputs, inputs @ weight.T, atol=1e-5, rtol=0)


@with_onednn
def test_packed_linear():
    """The same as `nn.Linear`, and with an activation as `nn.Linear` and then that."""
    linear, inputs = torch.nn.Linear(16, 7), torch.randn(2, 5, 16)
    with torch.inference_mode():
        packed = compat.pack_linear_weight(linear.weight)
        expected = linear(inputs)
        torch.testing.assert_close(compat.packed_linear(inputs, packed, linear.bias, "none", ""), expected, atol=1e-5, rtol=0)
        activated = compat.packed_linear(inputs, packed, linear.bias, "gelu", "none")
        torch.testing.assert_close(activated, torch.nn.functional.gelu(expected), atol=1e-5, rtol=0)


def test_module_members():
    """The dicts are those of the module: they change with it."""
    module = torch.nn.Linear(2, 2)
    children, parameters = compat.module_members(module)
    assert list(children) == [] and list(parameters) == ["weight", "bias"] and parameters["weight"] is module.weight
    module.child = torch.nn.ReLU()
    module.bias = None
    assert children == {"child": module.child} and parameters["bias"] is None
    del parameters["bias"]
    assert not hasattr(module, "bias")


def test_tensor_version():
    tensor = torch.zeros(3)
    before = compat.tensor_version(tensor)
    tensor.add_(1)
    assert compat.tensor_version(tensor) == before + 1
    with torch.inference_mode():
        assert compat.tensor_version(torch.zeros(3)) == 0


def test_trace_graph():
    """Calls of compiled functions are inlined, and their conditions become constants."""

    @torch.jit.script
    def scaled(x: torch.Tensor, double: bool) -> torch.Tensor:
        return x * 2.0 if double else x

    graph = compat.trace_graph(lambda x: scaled(x, True) + 1.0, (torch.ones(2),))
    assert len(list(graph.inputs())) == len(list(graph.outputs())) == 1
    kinds = {node.kind() for node in graph.nodes()}
    assert {"aten::mul", "aten::add"} <= kinds and "prim::CallFunction" not in kinds


def test_in_bad_fork():
    """Also in a fork of a process that has not used CUDA. `test_gpu.py` has one of a process that has."""
    assert compat.in_bad_fork() is False
    if not hasattr(os, "fork") or torch.cuda.is_initialized():
        return
    child = os.fork()
    if child == 0:
        os._exit(int(compat.in_bad_fork()))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# OpenVINO


@pytest.mark.skipif(not is_installed(), reason="OpenVINO is not installed")
def test_torchscript_decoder():
    """A traced function computes the same in OpenVINO."""
    _openvino()
    from openvino import Core
    from openvino.frontend import FrontEndManager

    linear, inputs = torch.nn.Linear(4, 3).requires_grad_(False), torch.randn(5, 4)
    with torch.inference_mode():
        decoder = compat.torchscript_decoder(compat.trace_graph(lambda x: linear(x).relu(), (torch.randn(2, 4),)))
        expected = linear(inputs).relu()
    frontend = FrontEndManager().load_by_framework("pytorch")
    graph = frontend.convert(frontend.load(decoder))
    outputs = Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(inputs.numpy())[0]
    np.testing.assert_allclose(outputs, expected.numpy(), atol=1e-5)


# transformers


def test_init_weights(model):
    """Only the module changes, to random weights of the config's deviation."""
    layer = model.encoder.layer[1].intermediate.dense
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    compat.init_weights(model, layer)
    assert layer.bias.abs().max() == 0
    assert layer.weight.std().item() == pytest.approx(model.config.initializer_range, rel=0.2)
    assert all((p == 7).all() for name, p in model.named_parameters() if "layer.1.intermediate" not in name)


def test_clear_name_or_path(model, tmp_path):
    """A saved config then names no folder of this machine."""
    assert str(tmp_path) in model.config._name_or_path
    compat.clear_name_or_path(model.config)
    assert model.config._name_or_path == ""
    model.save_pretrained(tmp_path / "saved")
    assert str(tmp_path) not in (tmp_path / "saved" / "config.json").read_text()


def test_attention_implementation(model):
    assert compat.attention_implementation(model.config) == "sdpa"
    eager = AutoModel.from_config(copy.deepcopy(model.config), attn_implementation="eager")
    assert compat.attention_implementation(eager.config) == "eager"
    assert compat.attention_implementation(object()) == ""


def test_has_masked_lm_form():
    assert all(compat.has_masked_lm_form(name) for name in ("bert", "roberta", "deberta-v2", "modernbert", "mpnet"))
    assert not any(compat.has_masked_lm_form(name) for name in ("gpt2", "llama", "no-such-model"))


def test_linear_layer_types(model, tmp_path):
    """GPT-2 has four linear layers in a transformer layer, all of its own type."""
    decoder = AutoModel.from_pretrained(save_tiny("gpt2", tmp_path / "decoder"))
    layers = [module for module in decoder.h[0].modules() if isinstance(module, compat.linear_layer_types())]
    assert len(layers) == 4 and not any(isinstance(layer, torch.nn.Linear) for layer in layers)
    assert sum(isinstance(module, compat.linear_layer_types()) for module in model.encoder.layer[0].modules()) == 6


# tokenizers


class PythonPreTokenizer:
    def pre_tokenize(self, text):
        """Keep the text whole."""


def test_tokenizer_part_types():
    bert, byte_level, unigram = (make().backend_tokenizer for make in (wordpiece_tokenizer, byte_tokenizer, unigram_tokenizer))
    assert compat.tokenizer_part_types(bert.pre_tokenizer, "pretokenizers") == ["BertPreTokenizer"]
    assert compat.tokenizer_part_types(bert.normalizer, "normalizers") == ["BertNormalizer"]
    assert compat.tokenizer_part_types(byte_level.pre_tokenizer, "pretokenizers") == ["ByteLevel"]
    assert compat.tokenizer_part_types(byte_level.normalizer, "normalizers") == []
    assert compat.tokenizer_part_types(unigram.pre_tokenizer, "pretokenizers") == ["Metaspace"]
    sequence = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase()])
    assert compat.tokenizer_part_types(sequence, "normalizers") == ["NFD", "Lowercase"]
    sequence = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Digits()])
    assert compat.tokenizer_part_types(sequence, "pretokenizers") == ["WhitespaceSplit", "Digits"]
    custom = pre_tokenizers.PreTokenizer.custom(PythonPreTokenizer())
    assert compat.tokenizer_part_types(custom, "pretokenizers") == ["Python"]


# spaCy and thinc


@pytest.fixture
def training_config(tmp_path):
    """A complete training config of an empty pipeline."""
    nlp = spacy.blank("en")
    DocBin(docs=[nlp("The pump failed."), nlp("The valve leaked.")]).to_disk(tmp_path / "docs.spacy")
    config = Config(nlp.config.copy(), is_interpolated=False)
    path = str(tmp_path / "docs.spacy")
    config["paths"] = {"train": path, "dev": path, "vectors": None, "init_tok2vec": None}
    return config


def test_training_loop():
    """The functions that we use of it, with the arguments that we pass."""
    loop = compat.training_loop()

    def arguments(function):
        return " ".join(inspect.signature(function).parameters)

    assert arguments(loop.train) == "nlp output_path use_gpu stdout stderr"
    assert arguments(loop.create_train_batches) == "nlp corpus batcher max_epochs"
    assert arguments(loop.train_while_improving) == (
        "nlp optimizer train_data evaluate dropout eval_frequency accumulate_gradient patience max_steps exclude "
        "annotating_components before_update"
    )
    assert arguments(loop.create_before_to_disk_callback) == "callback"
    assert arguments(loop.update_meta) == "training nlp info"


def test_init_nlp(training_config):
    nlp = compat.init_nlp(training_config)
    assert nlp.lang == "en" and nlp.pipe_names == [] and nlp.config["training"]["train_corpus"] == "corpora.train"


def test_training_schema(training_config):
    """It fills in a section's defaults and builds what it names."""
    nlp = spacy.blank("en")
    section = spacy.registry.resolve(training_config.interpolate()["training"], schema=compat.training_schema())
    assert section["patience"] == nlp.config["training"]["patience"] and callable(section["logger"])


def test_parse_config_overrides():
    arguments = ["--training.max_steps", "100", "--paths.train=a.spacy", "--nlp.pipeline", '["ner"]']
    expected = {"training.max_steps": 100, "paths.train": "a.spacy", "nlp.pipeline": ["ner"]}
    assert compat.parse_config_overrides(arguments) == expected
    with pytest.raises(NoSuchOption, match="no_section"):
        compat.parse_config_overrides(["--no_section", "1"])


def test_package_pipeline(tmp_path, capsys):
    spacy.blank("en").to_disk(tmp_path / "pipeline")
    (tmp_path / "out").mkdir()
    compat.package_pipeline(
        tmp_path / "pipeline", tmp_path / "out", name="toy", version="1.2.3", create_sdist=False, create_wheel=False
    )
    folder = tmp_path / "out" / "en_toy-1.2.3"
    assert (folder / "setup.py").exists() and (folder / "en_toy" / "en_toy-1.2.3" / "config.cfg").exists()


def test_shim_module():
    module = torch.nn.Linear(2, 2)
    model = torch_model("toy", torch.nn.Linear)
    set_module(model, module)
    assert compat.shim_module(model.shims[0]) is module


# All of them, and nowhere else


def test_every_function_has_a_test_of_its_name():
    functions = {name for name, value in vars(compat).items() if inspect.isfunction(value) and value.__module__ == "mtl.compat"}
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert functions and not {name for name in functions if not name.startswith("_")} - tests


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"  # `doc._` is public


def defined_names(tree: ast.AST) -> Iterator[str]:
    """Names that a file gives to functions, to attributes of classes, and to attributes of `self`."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                yield node.attr


def private_uses(tree: ast.AST, ours: Set[str]) -> Iterator[str]:
    """Private names of others that a file uses.

    Those of an imported module or class are told by its name. An object's are told by our not defining any such name (`ours`).
    """
    foreign: Set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            foreign.update(
                (alias.asname or alias.name).split(".")[0] for alias in node.names if alias.name.split(".")[0] in FOREIGN
            )
            yield from (alias.name for alias in node.names if any(map(is_private, alias.name.split("."))))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FOREIGN:
            foreign.update(alias.asname or alias.name for alias in node.names)
            for alias in node.names:
                if any(map(is_private, [*(node.module or "").split("."), alias.name])):
                    yield f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            root: ast.AST = node.value
            while isinstance(root, (ast.Attribute, ast.Call, ast.Subscript)):
                root = root.func if isinstance(root, ast.Call) else root.value
            if node.attr not in ours or (isinstance(root, ast.Name) and root.id in foreign):
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr", "delattr"):
            name = getattr(node.args[1], "value", "") if len(node.args) > 1 else ""
            if isinstance(name, str) and is_private(name) and name not in ours:
                yield ast.unparse(node)


def test_no_other_file_uses_private_names_of_dependencies():
    trees = {file: ast.parse(file.read_text()) for file in PACKAGE.rglob("*.py")}
    ours = {name for tree in trees.values() for name in defined_names(tree)}
    uses: List[str] = []
    for file, tree in trees.items():
        if file.name != "compat.py":
            uses += [f"{file.relative_to(ROOT)}: {use}" for use in private_uses(tree, ours)]
    assert not uses, "only mtl/compat.py may use these: " + "; ".join(uses)


def test_the_check_sees_private_names():
    code = """
import torch.cuda as cuda
from spacy.cli._util import parse
from transformers import AutoModel
class Ours:
    def __init__(self): self._own = 1
    def look(self, other): return self._own, other._own, other._theirs, self._inherited
cuda._is_in_bad_fork(); AutoModel.from_config(1)._own; getattr(1, "_hidden"); doc._.ask; sys.__stdout__
"""
    tree = ast.parse(code)
    assert sorted(private_uses(tree, set(defined_names(tree)))) == [
        "AutoModel.from_config(1)._own", "cuda._is_in_bad_fork", "getattr(1, '_hidden')", "other._theirs", "self._inherited",
        "spacy.cli._util.parse",
    ]  # fmt: skip
