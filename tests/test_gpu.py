"""What only a GPU can show. The whole suite runs on one with `MTL_TEST_DEVICE=cuda`."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import spacy
import torch
from conftest import TEXTS, make_nlp, overfit, sample_examples
from spacy.tokens import Doc
from torch.nn.attention import SDPBackend, sdpa_kernel

from mtl.encoder.runtime.gpu import plan_free_attention
from mtl.encoder.texts import tokenized_texts
from mtl.errors import UserError

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
MANY = [text for i in range(60) for text in (TEXTS[i % 4], TEXTS[i % 4] + " " + TEXTS[(i + 1) % 4], "Pump.", "")]


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """A folder of a pipeline that knows the sample examples, trained on the GPU."""
    nlp = make_nlp(tiny(), ("textcat", "ner", "qa"), model={"device": "cuda"})
    losses = overfit(nlp)
    assert losses[-1]["transformer"] < losses[0]["transformer"] / 5
    folder = tmp_path_factory.mktemp("trained")
    nlp.to_disk(folder)
    return folder


def load(folder, device="cuda", precision="fp32"):
    model = {"device": device, "precision": precision, "backend": "torch", "fallback": False}
    return spacy.load(folder, config={f"components.transformer.model.{key}": value for key, value in model.items()})


def annotation(docs):
    return [[(ent.start, ent.end, ent.label_) for ent in doc.ents] for doc in docs], [doc.cats for doc in docs]


def with_questions(nlp):
    docs = [nlp.make_doc(eg.text) for eg in sample_examples(nlp)]
    for doc in docs:
        doc._.questions = ["What failed?", "Who called?"]
    return docs


def test_a_gpu_writes_what_a_cpu_writes(trained):
    on_gpu, on_cpu = load(trained), load(trained, "cpu")
    assert on_gpu.get_pipe("transformer").encoder.device.type == "cuda"
    entities, cats = annotation(on_gpu.pipe(MANY, batch_size=16))
    expected, expected_cats = annotation(on_cpu.pipe(MANY, batch_size=16))
    assert entities == expected and any(entities)
    for gpu_cats, cpu_cats in zip(cats, expected_cats):
        assert gpu_cats == pytest.approx(cpu_cats, abs=1e-4)
    for gpu_doc, cpu_doc in zip(on_gpu.pipe(with_questions(on_gpu)), on_cpu.pipe(with_questions(on_cpu))):
        answers = {id: answer.text for id, answer in gpu_doc._.answers.items()}
        assert answers == {id: answer.text for id, answer in cpu_doc._.answers.items()}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_on_a_gpu_is_close_to_fp32(trained, precision):
    low, full = load(trained, precision=precision), load(trained)
    assert low.get_pipe("transformer").encoder.inference.precision == precision
    docs, expected = list(low.pipe(MANY)), list(full.pipe(MANY))
    for doc, exact in zip(docs, expected):
        assert doc.cats == pytest.approx(exact.cats, abs=0.05)
    tokens = tokenized_texts([low.make_doc(text) for text in TEXTS])
    rounded, exact = (nlp.get_pipe("transformer").encoder.encode(tokens) for nlp in (low, full))
    similarity = torch.nn.functional.cosine_similarity(rounded.vectors, exact.vectors, dim=1).cpu().numpy()
    assert similarity[exact.aligned].min() > 0.999  # a token without subwords has no direction


def test_a_stream_keeps_its_order_and_each_text_gets_what_it_gets_alone(trained):
    nlp = load(trained)
    together = list(nlp.pipe(MANY, batch_size=7))
    one_by_one = [nlp(text) for text in MANY]
    assert [doc.text for doc in together] == MANY
    assert annotation(together)[0] == annotation(one_by_one)[0]
    for doc, alone in zip(together, one_by_one):
        assert doc.cats == pytest.approx(alone.cats, abs=1e-4)


def test_a_document_that_fails_costs_one_document(trained):
    nlp = load(trained)
    failed = []
    nlp.set_error_handler(lambda name, pipe, docs, error: failed.extend(docs))
    docs = [nlp.make_doc(text) for text in MANY]
    docs[20]._.questions = ["word " * 200]  # more than the window
    passed = list(nlp.pipe(docs, batch_size=16))
    assert [doc.text for doc in failed] == [MANY[20]]
    assert [doc.text for doc in passed] == MANY[:20] + MANY[21:]


def test_a_batch_that_does_not_fit_in_memory_is_halved(tiny):
    """The GPU's own memory, limited to more than a window needs, and less than the batch does."""
    nlp = make_nlp(tiny(), ("textcat", "ner", "qa"), model={"device": "cuda", "max_batch_subwords": 1 << 22})
    docs = [nlp.make_doc(" ".join(TEXTS) * 4) for _ in range(2000)]
    encoder = nlp.get_pipe("transformer").encoder
    tokens = tokenized_texts(docs)
    expected = encoder.encode(tokens).vectors.cpu()
    peak, rest = torch.cuda.max_memory_allocated(), torch.cuda.memory_allocated()
    torch.cuda.empty_cache()
    try:
        torch.cuda.set_per_process_memory_fraction((rest + peak) / 2 / torch.cuda.get_device_properties(0).total_memory)
        vectors = encoder.encode(tokens).vectors.cpu()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert torch.allclose(vectors, expected, atol=1e-4)


def test_a_window_that_does_not_fit_in_memory_is_an_error(trained, monkeypatch):
    nlp = load(trained)
    encoder = nlp.get_pipe("transformer").encoder

    def forward(**_):
        return torch.empty(1 << 50, device="cuda")  # a petabyte

    monkeypatch.setattr(encoder.model, "forward", forward)
    with pytest.raises(UserError, match="cuda:0 is out of memory on a single window"):
        nlp("The pump failed in Oslo.")


@pytest.mark.slow
def test_stock_components_train_and_predict_on_the_gpu(tiny):
    pytest.importorskip("cupy", reason="spaCy's own components need CuPy on a GPU")
    code = f"""
import sys; sys.path.insert(0, {str(sys.path[0])!r})
import spacy
spacy.require_gpu()
from conftest import make_nlp, overfit, sample_examples
nlp = make_nlp({tiny()!r}, heads=("textcat", "ner"), model={{"device": "cuda"}})
pooling = {{"@layers": "reduce_mean.v1"}}
listener = {{"@architectures": "spacy-transformers.TransformerListener.v1", "grad_factor": 1.0, "pooling": pooling}}
model = {{"@architectures": "spacy.Tagger.v2", "tok2vec": listener}}
tagger = nlp.add_pipe("tagger", config={{"model": model}})
examples = sample_examples(nlp)
for eg in examples:
    for i, token in enumerate(eg.reference):
        token.tag_ = "AB"[i % 2]
tagger.initialize(lambda: examples, nlp=nlp)
losses = [nlp.update(examples, sgd=nlp.create_optimizer(), losses={{}}) for _ in range(20)]
assert losses[-1]["tagger"] < losses[0]["tagger"], (losses[0], losses[-1])
docs = list(nlp.pipe([eg.text for eg in examples] * 20, batch_size=8))
assert all(token.tag_ for doc in docs for token in doc) and all(doc.cats for doc in docs)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_predictions_need_no_cupy(trained):
    code = f"""
import sys; sys.modules["cupy"] = None
import spacy
nlp = spacy.load({str(trained)!r}, config={{"components.transformer.model.device": "cuda"}})
assert nlp.get_pipe("transformer").encoder.device.type == "cuda"
assert [doc.text for doc in nlp.pipe(["The pump failed in Oslo."] * 40) if doc.ents]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_threads_share_an_encoder_on_the_gpu(trained):
    nlp = load(trained)
    alone = [np.array(list(nlp(text).cats.values())) for text in MANY]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda text: np.array(list(nlp(text).cats.values())), MANY))
    for cats, expected in zip(together, alone):
        assert cats == pytest.approx(expected, abs=1e-4)


def test_attention_makes_no_plan_for_every_shape_and_leaves_the_switch_as_it_was():
    device = torch.device("cuda")
    assert torch.backends.cuda.cudnn_sdp_enabled()
    with plan_free_attention(device):
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        with plan_free_attention(device):
            pass
        assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert torch.backends.cuda.cudnn_sdp_enabled()
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION), plan_free_attention(device):
        assert torch.backends.cuda.cudnn_sdp_enabled()  # there is no other


def test_empty_streams_and_empty_documents_work(trained):
    nlp = load(trained)
    assert list(nlp.pipe([])) == []
    assert all(isinstance(doc, Doc) for doc in nlp.pipe(["", "", "Pump."], batch_size=2))


def test_a_forked_worker_says_that_it_cannot_use_the_gpu(trained):
    nlp = load(trained)
    assert nlp("The pump failed in Oslo.").ents
    with pytest.raises(ValueError, match=r"a fork cannot use a GPU that its parent uses\. Leave n_process at 1"):
        list(nlp.pipe(MANY, n_process=2, batch_size=16))
