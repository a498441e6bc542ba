"""Predictions in bf16 and int8, in torch and OpenVINO: near fp32, of the weights as they are now, refused where need be."""

import copy
import ctypes
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import spacy
import torch
from conftest import FAMILIES, TEXTS, make_nlp, overfit, sample_examples, save_tiny

from mtl.encoder import openvino_model, precision
from mtl.encoder.openvino_model import OpenVINOModel
from mtl.encoder.precision import PackedLinear, Serving, in_type, served
from mtl.encoder.torch_encoder import Encoder
from mtl.encoder.wordpieces import Tokens
from mtl.errors import UserError

CPU = torch.device("cpu")
LACKS_INT8 = precision.lacks("int8", "openvino", CPU)
with_int8 = pytest.mark.skipif(bool(LACKS_INT8), reason=LACKS_INT8)
with_openvino = pytest.mark.skipif(not openvino_model.installed(), reason="OpenVINO is not installed")
with_packing = pytest.mark.skipif(not torch.backends.mkldnn.is_available() or not precision._is_x86(), reason="not an x86")
LOW = [
    ("bf16", "torch"),
    *(pytest.param(name, "openvino", marks=with_openvino) for name in ("fp32", "bf16")),
    pytest.param("int8", "openvino", marks=with_int8),
]


@pytest.fixture
def any_processor(monkeypatch):
    """bf16 is the same where a processor emulates it, only slower."""
    monkeypatch.setattr(precision, "lacks", lambda *_: "")


def encoder_of(name, **settings) -> Encoder:
    return make_nlp(name, heads=("textcat",), model=settings).get_pipe("transformer").encoder


def whole(text):
    return Tokens(text, np.array([0]), np.array([len(text)]))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name,backend", LOW)
def test_every_family_predicts_and_is_near_fp32(tiny, family, name, backend, any_processor):
    vectors = {}
    for own in {("fp32", "torch"), ("fp32", backend), (name, backend)}:
        encoder = encoder_of(tiny(family), precision=own[0], backend=own[1], fallback=False)
        vectors[own] = encoder.encode([whole(text) for text in TEXTS]).vectors
        if own == (name, backend) == ("int8", "openvino"):
            operations = encoder.serving._made[1].graph.get_ops()
            assert "i8" in {op.get_element_type().get_type_name() for op in operations if op.get_type_name() == "Constant"}
    ours, exact = vectors[name, backend], vectors["fp32", "torch"]
    assert ours.dtype == torch.float32
    assert torch.cosine_similarity(exact, ours, dim=1).min() > 0.97
    if name == "fp32":
        assert torch.allclose(exact, ours, atol=1e-4)
    else:
        assert not torch.equal(vectors["fp32", backend], ours)


@with_openvino
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("group,error", [(32, 0.02), (48, 1.0)])
def test_int8_weights_have_a_scale_for_each_group_of_inputs(transposed, group, error):
    """Large weights of some inputs cost the others no digits; where the group does not divide the inputs, there is one scale."""
    openvino_model._openvino()
    from openvino import Core, Model
    from openvino import opset13 as ops

    random = np.random.default_rng(0)
    weight = random.normal(size=(16, 64)).astype(np.float32)
    weight[:, :32] *= 100
    texts = random.normal(size=(5, 64)).astype(np.float32)
    texts[:, :32] = 0
    parameter = ops.parameter([-1, 64], np.float32)
    product = ops.matmul(parameter, ops.constant(weight if transposed else weight.T.copy()), False, transposed)
    graph = Model([product], [parameter])
    openvino_model._quantize(graph, group)
    options = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
    found = Core().compile_model(graph, "CPU", options)(texts)[0]
    apart = np.abs(found - texts @ weight.T).max() / np.abs(texts @ weight.T).max()
    assert error / 20 < apart < error


@with_int8
@pytest.mark.parametrize("bf16", [True, False])
def test_an_int8_vector_does_not_depend_on_the_batch(tiny, monkeypatch, bf16):
    """To what bf16 or fp32 sums make of it, that is: not by a scale shared with the neighbours."""
    real = precision.lacks
    monkeypatch.setattr(precision, "lacks", lambda name, *rest: real(name, *rest) if bf16 or name != "bf16" else "lacks it")
    encoder = encoder_of(tiny(), precision="int8", fallback=False)
    loud = whole("! " * 100)
    alone = encoder.encode([whole(TEXTS[0])]).vectors
    together = encoder.encode([whole(TEXTS[0]), loud, whole(TEXTS[1])]).vectors[:1]
    assert torch.allclose(alone, together, atol=0.05 if bf16 else 1e-4)


@pytest.mark.parametrize("name,backend", LOW)
def test_the_weights_that_serve_follow_training(tiny, tmp_path, name, backend, any_processor):
    """A prediction between two updates, then another update: what is saved and loaded predicts the same, bit for bit."""
    nlp = make_nlp(tiny(), model={"precision": name, "backend": backend})
    before = nlp(TEXTS[0]).cats
    overfit(nlp, steps=2)
    between = nlp(TEXTS[0]).cats
    overfit(nlp, steps=2)
    after = nlp(TEXTS[0]).cats
    assert before != between != after
    nlp.to_disk(tmp_path)
    assert spacy.load(tmp_path)(TEXTS[0]).cats == after
    assert nlp.from_disk(tmp_path)(TEXTS[0]).cats == after


def test_int8_trains_in_fp32(tiny, any_processor):
    losses = [overfit(make_nlp(tiny(), model={"precision": name}), steps=3) for name in ("fp32", "int8")]
    assert losses[0] == losses[1]


def test_one_pipeline_in_another_precision_by_config(tiny, tmp_path, any_processor):
    nlp = make_nlp(tiny())
    overfit(nlp)
    nlp.to_disk(tmp_path)
    examples = sample_examples(nlp)
    for name in ("bf16",) if LACKS_INT8 or not openvino_model.installed() else ("bf16", "int8"):
        other = spacy.load(tmp_path, config={"components.transformer.model.precision": name})
        assert other.get_pipe("transformer").encoder.serving.precision == name
        for example in examples:
            ours, theirs = nlp(example.reference.text), other(example.reference.text)
            assert ours.cats == pytest.approx(theirs.cats, abs=0.2) and ours.cats != theirs.cats
            assert [(e.start, e.label) for e in ours.ents] == [(e.start, e.label) for e in theirs.ents]


@with_openvino
def test_a_precision_that_the_processor_lacks(tiny, monkeypatch):
    monkeypatch.setattr(precision, "_multiplies_int8", lambda: False)
    with pytest.warns(UserWarning, match=r'precision = "int8": the processor does not .* fp32 in torch is used'):
        nlp = make_nlp(tiny(), model={"precision": "int8"})
    described = nlp.get_pipe("transformer").encoder.describe()
    assert (described["precision"], described["backend"]) == ("fp32", "torch")
    assert nlp(TEXTS[0]).cats == make_nlp(tiny())(TEXTS[0]).cats
    with pytest.raises(UserError, match=r'precision = "int8": the processor does not .* or fallback = true'):
        make_nlp(tiny(), model={"precision": "int8", "fallback": False})
    with pytest.raises(UserError, match="fp16 is for GPUs, and the device is cpu"):
        make_nlp(tiny(), model={"precision": "fp16", "fallback": False})
    with pytest.raises(UserError, match=r'precision = "int8", backend = "torch": int8 runs in OpenVINO'):
        make_nlp(tiny(), model={"precision": "int8", "backend": "torch", "fallback": False})
    with pytest.raises(UserError, match=r"precision = 'fp8' is not known; allowed: 'fp32', 'bf16', 'fp16', 'int8'"):
        make_nlp(tiny(), model={"precision": "fp8"})
    with pytest.raises(UserError, match=r"backend = 'onnx' is not known; allowed: 'auto', 'torch', 'openvino'"):
        make_nlp(tiny(), model={"backend": "onnx"})


def test_without_openvino(tiny, monkeypatch):
    """bf16 runs in torch; what only OpenVINO can do is refused, with what to install."""
    monkeypatch.setattr(precision, "installed", lambda: False)
    monkeypatch.setattr(precision, "_multiplies_bf16", lambda _: True)
    assert encoder_of(tiny(), precision="bf16", fallback=False).describe()["backend"] == "torch"
    for settings in ({"precision": "int8"}, {"backend": "openvino"}):
        with pytest.raises(UserError, match=r'OpenVINO is not installed \(pip install "spacy-mtl\[openvino\]"\)'):
            encoder_of(tiny(), fallback=False, **settings)
        with pytest.warns(UserWarning, match="OpenVINO is not installed"):
            assert encoder_of(tiny(), **settings).describe()["precision"] == "fp32"
    with pytest.warns(UserWarning, match="bf16 in torch is used"):  # what `mtl optimize` wrote elsewhere
        assert precision.usable("bf16", "openvino", CPU, True) == ("bf16", "torch")


def test_openvino_is_for_cpus():
    assert precision.usable("bf16", "auto", torch.device("mps"), False) == ("bf16", "torch")
    with pytest.raises(UserError, match=r'backend = "openvino": OpenVINO is for CPUs, and the device is mps'):
        precision.usable("fp32", "openvino", torch.device("mps"), False)


def cannot_be_traced(found, ids):
    if torch.jit.is_tracing():
        raise TypeError("no tracing here\nand more")
    return found


def says_nothing(found, ids):
    if torch.jit.is_tracing():
        raise NotImplementedError
    return found


def is_another_once_traced(found, ids):
    found.last_hidden_state = found.last_hidden_state * ids.shape[1].__index__()
    return found


@with_openvino
@pytest.mark.parametrize(
    "change,reason",
    [
        (cannot_be_traced, "TypeError: no tracing here"),
        (says_nothing, "NotImplementedError:"),
        (is_another_once_traced, "ValueError: its outputs are .* from those before"),
    ],
)
def test_an_encoder_that_cannot_be_converted(tiny, monkeypatch, change, reason):
    lenient, strict, exact = (
        encoder_of(tiny(), backend=backend, fallback=fallback)
        for backend, fallback in (("openvino", True), ("openvino", False), ("torch", False))
    )
    kind, own = type(lenient.model), type(lenient.model).forward
    monkeypatch.setattr(kind, "forward", lambda self, **inputs: change(own(self, **inputs), inputs["input_ids"]))
    docs = [whole(text) for text in TEXTS]
    with pytest.warns(UserWarning, match=rf"OpenVINO cannot run this encoder \({reason}.*; torch is used instead, in fp32"):
        found = lenient.encode(docs).vectors
    assert torch.equal(found, exact.encode(docs).vectors) and lenient.describe()["backend"] == "torch"
    with pytest.raises(UserError, match=r'OpenVINO cannot run.* Set backend = "torch"'):
        strict.encode(docs)


@with_openvino
@pytest.mark.filterwarnings("error::UserWarning")
def test_openvino_in_threads_processes_and_batches(tmp_path):
    settings = {"batch_pieces": 40, "backend": "openvino"}
    nlp = make_nlp(save_tiny("bert", tmp_path / "encoder"), ("textcat", "ner"), model=settings)
    overfit(nlp, steps=5)
    texts = [f"{text} {i}" for i in range(6) for text in TEXTS]
    with ThreadPoolExecutor(8) as pool:  # before it is made: the threads meet there
        every = list(pool.map(lambda _: [doc.cats for doc in nlp.pipe(texts)], range(8)))
    expected = [doc.cats for doc in nlp.pipe(texts)]
    assert all(found == expected for found in every)
    alone = [nlp(text).cats for text in texts]
    forked = [doc.cats for doc in nlp.pipe(texts, n_process=2, batch_size=8)]
    for found in (alone, forked):
        assert all(one[label] == pytest.approx(own[label], abs=1e-5) for one, own in zip(found, expected) for label in own)


FORK = """
import os, sys
import spacy
config = {"components.transformer.model.backend": "openvino", "components.transformer.model.fallback": False}
nlp = spacy.load(sys.argv[1], config=config)
nlp("The pump failed in Oslo.")
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
nlp("The pump failed in Oslo.")
nlp.get_pipe("transformer").encoder.serving.forget()  # what the first process made is freed
nlp("The pump failed in Oslo.")
print("done", flush=True)
"""


@with_openvino
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_forked_process_frees_what_it_got_and_ends(tiny, tmp_path):
    make_nlp(tiny(), ("textcat",)).to_disk(tmp_path)
    command = [sys.executable, "-W", "ignore", "-c", FORK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stderr


@with_openvino
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="OpenVINO does this on Linux")
def test_the_thread_keeps_its_stack_for_signals(tiny):
    libc, before, after = ctypes.CDLL(None), openvino_model._SignalStack(), openvino_model._SignalStack()
    libc.sigaltstack(None, ctypes.byref(before))
    encoder_of(tiny(), backend="openvino", fallback=False).encode([whole(TEXTS[0])])
    libc.sigaltstack(None, ctypes.byref(after))
    assert (before.start, before.flags, before.size) == (after.start, after.flags, after.size)


@with_openvino
def test_converting_leaves_nothing_in_torch_and_breaks_nothing_of_the_users(tiny):
    scripted = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()))
    inputs = torch.ones(1, 2)
    before, known = scripted(inputs), len(torch.jit._recursive.concrete_type_store.type_store)
    encoder = encoder_of(tiny(), backend="openvino", fallback=False)
    encoder.encode([whole(TEXTS[0])])
    assert known == len(torch.jit._recursive.concrete_type_store.type_store)
    assert torch.equal(scripted(inputs), before)
    assert torch.jit.script(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()))(inputs).shape == (1, 2)


@with_openvino
def test_converting_is_done_once_for_all_threads(tiny, monkeypatch):
    made = []
    real = OpenVINOModel.__init__
    monkeypatch.setattr(OpenVINOModel, "__init__", lambda self, *given: (made.append(1), real(self, *given))[1])
    encoder = encoder_of(tiny(), backend="openvino")
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: encoder.encode([whole(TEXTS[0])]), range(6)))
    assert made == [1]


QUIET = """
import socket, sys
import spacy
def refuse(*_):
    raise RuntimeError("the network was asked for")
socket.socket.connect = socket.getaddrinfo = refuse
config = {"components.transformer.model.backend": "openvino", "components.transformer.model.fallback": False}
nlp = spacy.load(sys.argv[1], config=config)
assert nlp("The pump failed in Oslo.").cats
import openvino.tools.ovc.telemetry_utils as used
from openvino_telemetry.main import Telemetry
print(Telemetry._SingletonMetaClass__single_instance, used.tm.__name__)
"""


@with_openvino
def test_no_network_and_no_telemetry(tiny, tmp_path):
    make_nlp(tiny(), ("textcat",)).to_disk(tmp_path / "pipeline")
    command, home = [sys.executable, "-c", QUIET, str(tmp_path / "pipeline")], {**os.environ, "HOME": str(tmp_path / "home")}
    done = subprocess.run(command, capture_output=True, text=True, env=home)
    assert (done.stdout.strip(), done.stderr.strip()) == ("None openvino.tools.ovc.telemetry_stub", "")
    assert not (tmp_path / "home").exists()  # it keeps an identity there


def test_what_is_saved_stays_fp32():
    model = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
    copied = in_type(model, torch.float16)
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
        turned = torch.randn(16, 5).to(dtype).T
        assert torch.allclose(PackedLinear(linear)(turned), linear(turned), atol=tolerance)


@with_packing
def test_fp32_that_serves_shares_its_weights_with_what_trains():
    model = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))
    ours = served(model, "fp32")
    assert isinstance(ours[1], PackedLinear)
    assert [own.data_ptr() for own in ours.parameters()] == [own.data_ptr() for own in model.parameters()]


def test_nothing_is_packed_for_another_processor(monkeypatch):
    monkeypatch.setattr(precision, "_is_x86", lambda: False)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3))
    assert served(model, "fp32") is model and type(served(model, "bf16")[0]) is torch.nn.Linear


def test_serving_is_made_once_and_is_not_copied():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3))
    serving = Serving("bf16")
    made = serving.model(model)
    assert serving.model(model) is made
    assert copy.deepcopy(serving)._made is None


def test_what_serves_is_made_anew_when_the_model_is_another():
    """Weights changed in place, a parameter or a layer put in place of another or added, or another model; else not."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 4)).eval()
    serving = Serving("bf16")
    known = [serving.model(model)]
    assert serving.model(model) is known[0]

    def in_place():
        with torch.no_grad():
            model[0].weight.mul_(2)

    def another_parameter():
        model[2].bias = torch.nn.Parameter(torch.ones(4))

    def another_layer():
        model[1] = torch.nn.GELU()

    def one_more():
        model.append(torch.nn.Linear(4, 4))

    def one_renamed():
        model.second = model[1]
        del model[1]

    for change in (in_place, another_parameter, another_layer, one_more, one_renamed):
        change()
        made = serving.model(model)
        assert all(made is not one for one in known), change.__name__
        assert serving.model(model) is made
        known.append(made)
    assert serving.model(copy.deepcopy(model)) is not known[-1]
