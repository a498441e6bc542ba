"""The pipelines that are compared: ours, stock spaCy, Hugging Face, EDS-NLP, and the bare forward pass, on the same encoder.

Each is briefly trained on the sample corpus, where it is trained at all, so that it writes entities as a trained one does.
"""

import sys
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import spacy
import torch
import transformers
from spacy.language import Language
from spacy.training import Example
from transformers import AutoModel, BertConfig, BertModel

from mtl.data.docs import read_records, record_to_doc
from mtl.data.records import Report
from mtl.encoder.gpu import planless_attention
from mtl.encoder.limits import good_batch
from mtl.encoder.sources import load_tokenizer, resolve_encoder
from mtl.encoder.windows import window_starts
from mtl.mixture.reader import make_example
from mtl.serving.bench import make_docs
from mtl.training.optimizer import adamw

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
QUESTION = "What was found to be the cause?"  # asked of every tenth document
WINDOW, OVERLAP = 512, 128
LISTENER = {
    "@architectures": "spacy-transformers.TransformerListener.v1",
    "grad_factor": 1.0,
    "pooling": {"@layers": "reduce_mean.v1"},
}
TINY = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
Run = Callable[[List[str]], None]


def random_encoder(folder: Path, **shape: int) -> str:
    """A random BERT of the shape, by default that of BERT base (110 million parameters), with MiniLM's tokenizer."""
    tokenizer = load_tokenizer(MINILM)
    config = BertConfig(vocab_size=len(tokenizer), **shape)
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def labelled(nlp: Any) -> List[Example]:
    report = Report()
    records = list(read_records(ROOT / "corpus" / "train.jsonl", report))
    labels = sorted({label for record in records for label in record.cats or ()})
    for record in records:
        if record.cats:
            record.cats = {label: record.cats.get(label, 0.0) for label in labels}
    return [make_example(nlp, record_to_doc(record, nlp, report)) for record in records]


def train(nlp: Language, examples: List[Example], steps: int, optimizer: Any) -> None:
    for step in range(steps):
        chosen = [examples[(step * 8 + i) % len(examples)] for i in range(8)]
        nlp.update([Example(nlp.make_doc(eg.reference.text), eg.reference) for eg in chosen], sgd=optimizer)


def ours(encoder: str, steps: int, rate: float, folder: Path) -> None:
    """Train our three heads and save the pipeline to `folder`, to be loaded in any precision."""
    nlp = spacy.blank("en", config={"nlp": {"tokenizer": {"@tokenizers": "mtl.Tokenizer.v1"}}})
    nlp.add_pipe("mtl_transformer", name="transformer")
    for head in ("textcat", "ner", "qa"):
        nlp.add_pipe(f"mtl_{head}", name=head)
    nlp.config["initialize"]["components"] = {
        "transformer": {"encoder_loader": {"@misc": "mtl.HuggingFaceLoader.v1", "name": encoder}}
    }
    examples = labelled(nlp)
    nlp.initialize(lambda: examples)
    train(nlp, examples, steps, adamw(rate))
    nlp.to_disk(folder)


def stock(encoder: str, steps: int, rate: float) -> Language:
    """spacy-transformers with ner and textcat, as spaCy's quickstart configures them."""
    nlp = spacy.blank("en")
    model = {"@architectures": "spacy-transformers.TransformerModel.v3", "name": encoder}
    nlp.add_pipe("transformer", config={"model": model})
    parser = {"@architectures": "spacy.TransitionBasedParser.v2", "state_type": "ner", "extra_state_tokens": False}
    parser |= {"hidden_width": 64, "maxout_pieces": 2, "use_upper": False, "nO": None, "tok2vec": LISTENER}
    nlp.add_pipe("ner", config={"model": parser})
    # After ner: where TextCatEnsemble is not the last listener, its training crashes in spacy-transformers 1.4.
    words = {"@architectures": "spacy.TextCatBOW.v3", "exclusive_classes": True, "length": 262144, "ngram_size": 1}
    words["no_output_layer"] = False
    ensemble = {"@architectures": "spacy.TextCatEnsemble.v2", "tok2vec": LISTENER, "linear_model": words}
    nlp.add_pipe("textcat", config={"model": ensemble})
    examples = [example for example in labelled(nlp) if example.reference.cats and example.reference.has_annotation("ENT_IOB")]
    nlp.initialize(lambda: examples)
    optimizer = nlp.create_optimizer()
    optimizer.learn_rate = rate
    train(nlp, examples, steps, optimizer)
    return nlp


def edsnlp_ner(encoder: str, steps: int, rate: float, device: torch.device, prompt: int = 0) -> Any:
    """EDS-NLP's CRF tagger alone on its transformer. prompt: wordpieces that its windows leave room for."""
    import edsnlp
    import edsnlp.pipes as eds

    nlp = edsnlp.blank("en")
    window = WINDOW - 2 - prompt  # it adds the two specials, and the prompt
    room = {"window": window, "stride": window - OVERLAP}
    embedding = eds.transformer(model=encoder, **room)
    nlp.add_pipe(eds.ner_crf(embedding=embedding, mode="joint", target_span_getter="gold", span_setter="ents"), name="ner")
    docs = []
    for example in labelled(spacy.blank("en")):
        if example.reference.has_annotation("ENT_IOB"):
            doc = nlp.make_doc(example.reference.text)
            found = (doc.char_span(ent.start_char, ent.end_char, label=ent.label_) for ent in example.reference.ents)
            doc.spans["gold"] = [span for span in found if span is not None]
            docs.append(doc)
    nlp.post_init(docs)
    nlp.to(device)
    optimizer = torch.optim.AdamW(nlp.parameters(), lr=rate)
    nlp.train(True)
    for step in range(steps):
        chosen = [docs[(step * 8 + i) % len(docs)] for i in range(8)]
        batch = nlp.collate([nlp.preprocess(doc, supervision=True) for doc in chosen])
        batch = {"ner": nlp.get_pipe("ner").batch_to_device(batch["ner"], device)}
        with nlp.cache():
            nlp.get_pipe("ner")(batch["ner"])["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    nlp.train(False)
    return nlp


def edsnlp_ner_qa(encoder: str, steps: int, rate: float, device: torch.device) -> Run:
    """EDS-NLP's CRF tagger and its question answering, which is not trained, on one transformer."""
    import edsnlp.pipes as eds

    nlp = edsnlp_ner(encoder, steps, rate, device, prompt=16)
    shared = {"embedding": nlp.get_pipe("ner").embedding, "questions_attribute": "questions"}
    nlp.add_pipe(eds.extractive_qa(**shared, target_span_getter="gold", span_setter="answers"), name="qa")
    nlp.to(device).train(False)

    def run(texts: List[str]) -> None:
        docs = [nlp.make_doc(text) for text in texts]
        for doc in docs[::10]:
            doc._.questions = {"answer": [QUESTION]}
        for _ in nlp.pipe(docs, batch_size=256):
            pass

    return run


def huggingface(encoder: str, batch_size: int, device: torch.device) -> Run:
    """Token classification, text classification and question answering, a model each.

    The tagger predicts no entity, so what comes after its forward pass is as little as it can be.
    """
    transformers.logging.set_verbosity_error()
    name = resolve_encoder(encoder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    tokenizer.model_max_length = WINDOW
    torch.manual_seed(0)
    tagger = transformers.AutoModelForTokenClassification.from_pretrained(name, num_labels=9)
    with torch.no_grad():
        tagger.classifier.weight.zero_()
        tagger.classifier.bias[0] = 1.0
    classifier = transformers.AutoModelForSequenceClassification.from_pretrained(name, num_labels=5)
    answerer = transformers.AutoModelForQuestionAnswering.from_pretrained(name)
    shared: Dict[str, Any] = {"tokenizer": tokenizer, "batch_size": batch_size, "device": device}
    entities = transformers.pipeline(
        "token-classification", model=tagger, aggregation_strategy="simple", stride=OVERLAP, **shared
    )
    categories = transformers.pipeline("text-classification", model=classifier, truncation=True, **shared)
    questions = transformers.pipeline("question-answering", model=answerer, **shared)

    def run(texts: List[str]) -> None:
        entities(texts)
        categories(texts)
        asked = texts[::10]
        questions(
            question=[QUESTION] * len(asked), context=asked, handle_impossible_answer=True, max_seq_len=WINDOW, doc_stride=OVERLAP
        )

    return run


def bare(encoder: str, asking: bool, device: torch.device, batch_pieces: int = 0, dtype: torch.dtype = torch.float32) -> Run:
    """Tokenise, cut into our windows, sort by length, pad, forward: the least that a pipeline with this encoder must do.

    asking: the questions' windows are among them. batch_pieces: 0 is what our encoder takes. dtype: of the weights.
    """
    tokenizer, model = load_tokenizer(encoder), AutoModel.from_pretrained(resolve_encoder(encoder)).eval()
    model.pooler = None
    model.to(device, dtype)
    batch_pieces = batch_pieces or good_batch(model, device)
    question = tokenizer.backend_tokenizer.encode(QUESTION).ids[1:-1]

    def run(texts: List[str]) -> None:
        encodings = tokenizer.backend_tokenizer.encode_batch(texts)
        rows = [row for encoding in encodings for row in windows(encoding.ids, [])]
        rows += [row for encoding in encodings[::10] for row in windows(encoding.ids, question)] if asking else []
        order = sorted(rows, key=len)
        while order:
            size = 1
            while size < len(order) and (size + 1) * len(order[size]) <= batch_pieces:
                size += 1
            batch, order = order[:size], order[size:]
            padded = np.zeros((size, len(batch[-1])), dtype=np.int64)
            mask = np.arange(padded.shape[1]) < np.array([len(row) for row in batch])[:, None]
            padded[mask] = np.concatenate(batch)
            with torch.inference_mode(), planless_attention(device):
                inputs = (torch.from_numpy(array).to(device) for array in (padded, mask.astype(np.int64)))
                model(**dict(zip(("input_ids", "attention_mask"), inputs)))
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


def windows(ids: List[int], question: List[int]) -> List[List[int]]:
    """A text's wordpieces, [CLS] and [SEP] included, as the windows that our encoder makes by default, behind the question."""
    body, before = ids[1:-1], [ids[0], *question, *([ids[-1]] if question else [])]
    room = WINDOW - len(before) - 1
    return [[*before, *body[i : i + room], ids[-1]] for i in window_starts(len(body), room, OVERLAP).tolist()]


def through(nlp: Any, batch_size: int, asking: bool) -> Run:
    """`nlp.pipe` over the texts; with questions, if the pipeline answers them."""

    def run(texts: List[str]) -> None:
        for _ in nlp.pipe(make_docs(nlp, texts, QUESTION) if asking else texts, batch_size=batch_size):
            pass

    return run
