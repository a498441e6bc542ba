"""Predictions in bf16 and int8, in torch and OpenVINO: close to fp32, with the current weights, refused where unsupported."""

import copy
import ctypes
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import spacy
import torch
from conftest import FAMILIES, TEXTS, make_nlp, overfit, sample_examples, save_tiny

from mtl.encoder.model.encoder import Encoder
from mtl.encoder.model.subwords import TokenizedText
from mtl.encoder.runtime import inference, openvino_model, precision
from mtl.encoder.runtime.inference import InferenceModel, PackedLinear, in_dtype, torch_inference_model
from mtl.encoder.runtime.openvino_model import OpenVINOModel
from mtl.errors import UserError

CPU = torch.device("cpu")
NO_INT8 = precision.why_unsupported("int8", "openvino", CPU)
with_int8 = pytest.mark.skipif(bool(NO_INT8), reason=NO_INT8)
with_openvino = pytest.mark.skipif(not openvino_model.is_installed(), reason="OpenVINO is not installed")
with_packing = pytest.mark.skipif(not torch.backends.mkldnn.is_available() or not precision.is_x86(), reason="not an x86")
LOW = [
    ("bf16", "torch"),
    *(pytest.param(name, "openvino", marks=with_openvino) for name in ("fp32", "bf16")),
    pytest.param("int8", "openvino", marks=with_int8),
]


@pytest.fixture
def any_processor(monkeypatch):
    """bf16 gives the same on a processor that emulates it, only slower."""
    for module in (precision, inference):
        monkeypatch.setattr(module, "why_unsupported", lambda *_: "")


def encoder_of(name, **settings) -> Encoder:
    return make_nlp(name, heads=("textcat",), model=settings).get_pipe("transformer").encoder


def one_token(text):
    return TokenizedText(text, np.array([0]), np.array([len(text)]))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name,backend", LOW)
def test_every_family_predicts_close_to_fp32(tiny, family, name, backend, any_processor):
    vectors = {}
    for pair in {("fp32", "torch"), ("fp32", backend), (name, backend)}:
        encoder = encoder_of(tiny(family), precision=pair[0], backend=pair[1], fallback=False)
        vectors[pair] = encoder.encode([one_token(text) for text in TEXTS]).vectors
        if pair == (name, backend) == ("int8", "openvino"):
            operations = encoder.inference._made[1].graph.get_ops()
            assert "i8" in {op.get_element_type().get_type_name() for op in operations if op.get_type_name() == "Constant"}
    rounded, exact = vectors[name, backend], vectors["fp32", "torch"]
    assert rounded.dtype == torch.float32
    assert torch.cosine_similarity(exact, rounded, dim=1).min() > 0.97
    if name == "fp32":
        assert torch.allclose(exact, rounded, atol=1e-4)
    else:
        assert not torch.equal(vectors["fp32", backend], rounded)


@with_openvino
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("group_size,bound", [(32, 0.02), (48, 1.0)])
def test_int8_weights_have_a_scale_for_each_group_of_inputs(transposed, group_size, bound):
    """Large weights of some inputs cost the others no digits. With a group size that does not divide the inputs they do."""
    openvino_model._openvino()
    from openvino import Core, Model
    from openvino import opset13 as ops

    rng = np.random.default_rng(0)
    weight = rng.normal(size=(16, 64)).astype(np.float32)
    weight[:, :32] *= 100
    texts = rng.normal(size=(5, 64)).astype(np.float32)
    texts[:, :32] = 0
    parameter = ops.parameter([-1, 64], np.float32)
    product = ops.matmul(parameter, ops.constant(weight if transposed else weight.T.copy()), False, transposed)
    graph = Model([product], [parameter])
    openvino_model._quantize(graph, group_size)
    options = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
    outputs = Core().compile_model(graph, "CPU", options)(texts)[0]
    error = np.abs(outputs - texts @ weight.T).max() / np.abs(texts @ weight.T).max()
    assert bound / 20 < error < bound


@with_int8
@pytest.mark.parametrize("bf16", [True, False])
def test_an_int8_vector_does_not_depend_on_the_batch(tiny, monkeypatch, bf16):
    """Up to the rounding of bf16 or fp32 sums, that is: it shares no scale with its neighbours."""
    real = precision.why_unsupported
    for module in (precision, inference):
        monkeypatch.setattr(
            module, "why_unsupported", lambda name, *rest: real(name, *rest) if bf16 or name != "bf16" else "it is not"
        )
    encoder = encoder_of(tiny(), precision="int8", fallback=False)
    loud = one_token("! " * 100)
    alone = encoder.encode([one_token(TEXTS[0])]).vectors
    together = encoder.encode([one_token(TEXTS[0]), loud, one_token(TEXTS[1])]).vectors[:1]
    assert torch.allclose(alone, together, atol=0.05 if bf16 else 1e-4)


@pytest.mark.parametrize("name,backend", LOW)
def test_predictions_follow_training(tiny, tmp_path, name, backend, any_processor):
    """A prediction between two updates, then another update: what is saved and loaded predicts the same, bit for bit."""
    nlp = make_nlp(tiny(), heads=("textcat", "ner", "qa"), model={"precision": name, "backend": backend})
    before = nlp(TEXTS[0]).cats
    overfit(nlp, steps=2)
    between = nlp(TEXTS[0]).cats
    overfit(nlp, steps=2)
    after = nlp(TEXTS[0]).cats
    assert before != between != after
    nlp.to_disk(tmp_path)
    assert spacy.load(tmp_path)(TEXTS[0]).cats == after
    assert nlp.from_disk(tmp_path)(TEXTS[0]).cats == after


def test_an_int8_pipeline_trains_in_fp32(tiny, any_processor):
    losses = [overfit(make_nlp(tiny(), model={"precision": name}), steps=3) for name in ("fp32", "int8")]
    assert losses[0] == losses[1]


def test_the_config_sets_another_precision_for_a_saved_pipeline(tiny, tmp_path, any_processor):
    nlp = make_nlp(tiny(), heads=("textcat", "ner", "qa"))
    overfit(nlp)
    nlp.to_disk(tmp_path)
    examples = sample_examples(nlp)
    for name in ("bf16",) if NO_INT8 or not openvino_model.is_installed() else ("bf16", "int8"):
        other = spacy.load(tmp_path, config={"components.transformer.model.precision": name})
        assert other.get_pipe("transformer").encoder.inference.precision == name
        for example in examples:
            exact, rounded = nlp(example.reference.text), other(example.reference.text)
            assert exact.cats == pytest.approx(rounded.cats, abs=0.2) and exact.cats != rounded.cats
            assert [(e.start, e.label) for e in exact.ents] == [(e.start, e.label) for e in rounded.ents]


@with_openvino
def test_an_unsupported_precision_is_replaced_or_refused(tiny, monkeypatch):
    monkeypatch.setattr(precision, "_supports_int8", lambda: False)
    with pytest.warns(UserWarning, match=r'precision = "int8": the processor has no native int8 .* using fp32 in torch instead'):
        nlp = make_nlp(tiny(), model={"precision": "int8"})
    described = nlp.get_pipe("transformer").encoder.describe()
    assert (described["precision"], described["backend"]) == ("fp32", "torch")
    assert nlp(TEXTS[0]).cats == make_nlp(tiny())(TEXTS[0]).cats
    with pytest.raises(UserError, match=r'precision = "int8": the processor has no native int8 .* or fallback = true'):
        make_nlp(tiny(), model={"precision": "int8", "fallback": False})
    with pytest.raises(UserError, match="fp16 is for GPUs, and the device is cpu"):
        make_nlp(tiny(), model={"precision": "fp16", "fallback": False})
    with pytest.raises(UserError, match=r'precision = "int8", backend = "torch": int8 needs OpenVINO'):
        make_nlp(tiny(), model={"precision": "int8", "backend": "torch", "fallback": False})
    with pytest.raises(UserError, match=r"precision = 'fp8' is not known; allowed: 'fp32', 'bf16', 'fp16', 'int8'"):
        make_nlp(tiny(), model={"precision": "fp8"})
    with pytest.raises(UserError, match=r"backend = 'onnx' is not known; allowed: 'auto', 'torch', 'openvino'"):
        make_nlp(tiny(), model={"backend": "onnx"})


def test_without_openvino_bf16_runs_in_torch_and_the_rest_is_refused(tiny, monkeypatch):
    """The message says what to install."""
    monkeypatch.setattr(precision, "is_installed", lambda: False)
    monkeypatch.setattr(precision, "_supports_bf16", lambda _: True)
    assert encoder_of(tiny(), precision="bf16", fallback=False).describe()["backend"] == "torch"
    for settings in ({"precision": "int8"}, {"backend": "openvino"}):
        with pytest.raises(UserError, match=r'OpenVINO is not installed \(pip install "spacy-mtl\[openvino\]"\)'):
            encoder_of(tiny(), fallback=False, **settings)
        with pytest.warns(UserWarning, match="OpenVINO is not installed"):
            assert encoder_of(tiny(), **settings).describe()["precision"] == "fp32"
    with pytest.warns(UserWarning, match="using bf16 in torch instead"):  # written by `mtl optimize` on another machine
        assert precision.usable("bf16", "openvino", CPU, True) == ("bf16", "torch")


def test_openvino_is_only_used_on_cpus():
    assert precision.usable("bf16", "auto", torch.device("mps"), False) == ("bf16", "torch")
    with pytest.raises(UserError, match=r'backend = "openvino": OpenVINO runs on CPUs, and the device is mps'):
        precision.usable("fp32", "openvino", torch.device("mps"), False)


def fails_when_traced(output, ids):
    if torch.jit.is_tracing():
        raise TypeError("no tracing here\nand more")
    return output


def fails_without_a_message(output, ids):
    if torch.jit.is_tracing():
        raise NotImplementedError
    return output


def computes_something_else_once_traced(output, ids):
    output.last_hidden_state = output.last_hidden_state * ids.shape[1].__index__()
    return output


@with_openvino
@pytest.mark.parametrize(
    "change,reason",
    [
        (fails_when_traced, "TypeError: no tracing here"),
        (fails_without_a_message, "NotImplementedError:"),
        (computes_something_else_once_traced, "ValueError: its outputs differ by .* from those before"),
    ],
)
def test_an_encoder_that_cannot_be_converted_runs_in_torch_or_is_refused(tiny, monkeypatch, change, reason):
    lenient, strict, exact = (
        encoder_of(tiny(), backend=backend, fallback=fallback)
        for backend, fallback in (("openvino", True), ("openvino", False), ("torch", False))
    )
    model_class, forward = type(lenient.model), type(lenient.model).forward
    monkeypatch.setattr(model_class, "forward", lambda self, **inputs: change(forward(self, **inputs), inputs["input_ids"]))
    docs = [one_token(text) for text in TEXTS]
    with pytest.warns(UserWarning, match=rf"OpenVINO cannot run this encoder \({reason}.*; using torch instead, in fp32"):
        vectors = lenient.encode(docs).vectors
    assert torch.equal(vectors, exact.encode(docs).vectors) and lenient.describe()["backend"] == "torch"
    with pytest.raises(UserError, match=r'OpenVINO cannot run.* Set backend = "torch"'):
        strict.encode(docs)


@with_openvino
@pytest.mark.filterwarnings("error::UserWarning")
def test_openvino_gives_the_same_in_threads_processes_and_batches(tmp_path):
    settings = {"max_batch_subwords": 40, "backend": "openvino"}
    nlp = make_nlp(save_tiny("bert", tmp_path / "encoder"), ("textcat", "ner"), model=settings)
    overfit(nlp, steps=5)
    texts = [f"{text} {i}" for i in range(6) for text in TEXTS]
    with ThreadPoolExecutor(8) as pool:  # before the model is converted, so that the threads meet there
        from_threads = list(pool.map(lambda _: [doc.cats for doc in nlp.pipe(texts)], range(8)))
    expected = [doc.cats for doc in nlp.pipe(texts)]
    assert all(cats == expected for cats in from_threads)
    alone = [nlp(text).cats for text in texts]
    forked = [doc.cats for doc in nlp.pipe(texts, n_process=2, batch_size=8)]
    for cats in (alone, forked):
        assert all(a[label] == pytest.approx(b[label], abs=1e-5) for a, b in zip(cats, expected) for label in b)


FORK = """
import os, sys
import spacy
config = {"components.transformer.model.backend": "openvino", "components.transformer.model.fallback": False}
nlp = spacy.load(sys.argv[1], config=config)
nlp("The pump failed in Oslo.")
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
nlp("The pump failed in Oslo.")
nlp.get_pipe("transformer").encoder.inference.invalidate()  # drops the parent's model
nlp("The pump failed in Oslo.")
print("done", flush=True)
"""


@pytest.mark.slow
@with_openvino
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_forked_process_can_drop_the_model_of_its_parent_and_ends(tiny, tmp_path):
    make_nlp(tiny(), ("textcat",)).to_disk(tmp_path)
    command = [sys.executable, "-W", "ignore", "-c", FORK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stderr


def test_a_fork_never_frees_the_models_of_its_parent(monkeypatch):
    model = SimpleNamespace()
    monkeypatch.setattr(openvino_model, "_alive", {id(model): model}.values())
    before = sys.getrefcount(model)
    openvino_model._after_fork()
    assert sys.getrefcount(model) == before + 1


@with_openvino
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="OpenVINO does this on Linux")
def test_the_thread_keeps_its_stack_for_signals(tiny):
    libc, before, after = ctypes.CDLL(None), openvino_model._SignalStack(), openvino_model._SignalStack()
    libc.sigaltstack(None, ctypes.byref(before))
    encoder_of(tiny(), backend="openvino", fallback=False).encode([one_token(TEXTS[0])])
    libc.sigaltstack(None, ctypes.byref(after))
    assert (before.start, before.flags, before.size) == (after.start, after.flags, after.size)


@with_openvino
def test_converting_leaves_nothing_in_torch_and_breaks_no_scripted_module(tiny):
    scripted = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()))
    inputs = torch.ones(1, 2)
    before, known = scripted(inputs), len(torch.jit._recursive.concrete_type_store.type_store)
    encoder = encoder_of(tiny(), backend="openvino", fallback=False)
    encoder.encode([one_token(TEXTS[0])])
    assert known == len(torch.jit._recursive.concrete_type_store.type_store)
    assert torch.equal(scripted(inputs), before)
    assert torch.jit.script(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()))(inputs).shape == (1, 2)


@with_openvino
def test_converting_is_done_once_for_all_threads(tiny, monkeypatch):
    made = []
    real = OpenVINOModel.__init__
    monkeypatch.setattr(OpenVINOModel, "__init__", lambda self, *args: (made.append(1), real(self, *args))[1])
    encoder = encoder_of(tiny(), backend="openvino")
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: encoder.encode([one_token(TEXTS[0])]), range(6)))
    assert made == [1]


QUIET = """
import socket, sys
import spacy
def refuse(*_):
    raise RuntimeError("the network was used")
socket.socket.connect = socket.getaddrinfo = refuse
config = {"components.transformer.model.backend": "openvino", "components.transformer.model.fallback": False}
nlp = spacy.load(sys.argv[1], config=config)
assert nlp("The pump failed in Oslo.").cats
import openvino.tools.ovc.telemetry_utils as used
from openvino_telemetry.main import Telemetry
print(Telemetry._SingletonMetaClass__single_instance, used.tm.__name__)
"""


@with_openvino
def test_openvino_is_imported_without_its_telemetry():
    openvino_model._openvino()
    from openvino.tools.ovc import telemetry_utils

    assert telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"


@pytest.mark.slow
@with_openvino
def test_a_pipeline_on_openvino_uses_no_network_and_no_telemetry(tiny, tmp_path):
    make_nlp(tiny(), ("textcat",)).to_disk(tmp_path / "pipeline")
    command, home = [sys.executable, "-c", QUIET, str(tmp_path / "pipeline")], {**os.environ, "HOME": str(tmp_path / "home")}
    done = subprocess.run(command, capture_output=True, text=True, env=home)
    assert (done.stdout.strip(), done.stderr.strip()) == ("None openvino.tools.ovc.telemetry_stub", "")
    assert not (tmp_path / "home").exists()  # it keeps an identity there


def test_the_trained_model_stays_fp32():
    model = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
    copied = in_dtype(model, torch.float16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in copied.parameters()} == {torch.float16}
    assert copied[2].running_mean is model[2].running_mean


@with_packing
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 16), (3, 700, 16), (0, 16)])
def test_a_packed_layer_is_a_linear_layer(dtype, bias, shape):
    linear = torch.nn.Linear(16, 7, bias).to(dtype)
    inputs = torch.randn(shape).to(dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    with torch.inference_mode():
        assert torch.allclose(PackedLinear(linear)(inputs), linear(inputs), atol=tolerance)
        transposed = torch.randn(16, 5).to(dtype).T
        assert torch.allclose(PackedLinear(linear)(transposed), linear(transposed), atol=tolerance)


@with_packing
def test_the_fp32_inference_model_shares_its_weights_with_the_trained_one():
    model = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))
    copied = torch_inference_model(model, "fp32")
    assert isinstance(copied[1], PackedLinear)
    assert [parameter.data_ptr() for parameter in copied.parameters()] == [
        parameter.data_ptr() for parameter in model.parameters()
    ]


def test_nothing_is_packed_for_another_processor(monkeypatch):
    monkeypatch.setattr(inference, "is_x86", lambda: False)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3))
    assert torch_inference_model(model, "fp32") is model
    assert type(torch_inference_model(model, "bf16")[0]) is torch.nn.Linear


def test_the_inference_model_is_made_once_and_is_not_copied():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3))
    inference_model = InferenceModel("bf16")
    made = inference_model.model(model)
    assert inference_model.model(model) is made
    assert copy.deepcopy(inference_model)._made is None


def test_the_inference_model_is_made_again_when_the_model_changes():
    """Weights changed in place, a parameter or layer replaced, added or renamed, or another model; otherwise not."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 4)).eval()
    inference_model = InferenceModel("bf16")
    earlier = [inference_model.model(model)]
    assert inference_model.model(model) is earlier[0]

    def in_place():
        with torch.no_grad():
            model[0].weight.mul_(2)

    def another_parameter():
        model[2].bias = torch.nn.Parameter(torch.ones(4))

    def another_layer():
        model[1] = torch.nn.GELU()

    def added_layer():
        model.append(torch.nn.Linear(4, 4))

    def renamed_layer():
        model.second = model[1]
        del model[1]

    for change in (in_place, another_parameter, another_layer, added_layer, renamed_layer):
        change()
        made = inference_model.model(model)
        assert all(made is not other for other in earlier), change.__name__
        assert inference_model.model(model) is made
        earlier.append(made)
    assert inference_model.model(copy.deepcopy(model)) is not earlier[-1]
