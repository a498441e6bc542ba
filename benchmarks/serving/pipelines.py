"""The pipelines to compare, on the same encoder: ours, stock spaCy, Hugging Face, EDS-NLP, and the bare forward pass.

Those that can be trained are trained briefly on the sample corpus, so that they write entities as trained ones do.
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

from mtl.data.docs import record_to_doc
from mtl.data.formats.detect import read_records
from mtl.data.records import Report
from mtl.deploy.bench import QUESTION_INTERVAL, make_docs
from mtl.encoder.model.windows import window_starts
from mtl.encoder.pretrained.sources import load_tokenizer, resolve_encoder
from mtl.encoder.runtime.device import good_batch
from mtl.encoder.runtime.gpu import plan_free_attention
from mtl.sampling.corpus import make_example
from mtl.training.optimizer import adamw

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
QUESTION = "What was found to be the cause?"  # about every tenth document
WINDOW, OVERLAP = 512, 128
LISTENER = {
    "@architectures": "spacy-transformers.TransformerListener.v1",
    "grad_factor": 1.0,
    "pooling": {"@layers": "reduce_mean.v1"},
}
TINY = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
BATCH_DOCS = 8  # in training
Run = Callable[[List[str]], None]  # processes texts


def random_encoder(folder: Path, **shape: int) -> str:
    """Write a random BERT of this shape, by default BERT base's (110 million parameters), with MiniLM's tokenizer."""
    tokenizer = load_tokenizer(MINILM)
    config = BertConfig(vocab_size=len(tokenizer), **shape)
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def labelled(nlp: Any) -> List[Example]:
    """The training documents of the sample corpus."""
    report = Report()
    records = list(read_records(ROOT / "corpus" / "train.jsonl", report))
    labels = sorted({label for record in records for label in record.cats or ()})
    for record in records:
        if record.cats:
            record.cats = {label: record.cats.get(label, 0.0) for label in labels}
    return [make_example(nlp, record_to_doc(record, nlp, report)) for record in records]


def train(nlp: Language, examples: List[Example], steps: int, optimizer: Any) -> None:
    """Train for some steps at a constant rate."""
    for step in range(steps):
        batch = [examples[(step * BATCH_DOCS + i) % len(examples)] for i in range(BATCH_DOCS)]
        nlp.update([Example(nlp.make_doc(eg.reference.text), eg.reference) for eg in batch], sgd=optimizer)


def ours(encoder: str, steps: int, learning_rate: float, folder: Path) -> None:
    """Train three of our heads and save the pipeline to `folder`, from where it can be loaded in any precision."""
    nlp = spacy.blank("en", config={"nlp": {"tokenizer": {"@tokenizers": "mtl.Tokenizer.v1"}}})
    nlp.add_pipe("mtl_transformer", name="transformer")
    for head in ("textcat", "ner", "qa"):
        nlp.add_pipe(f"mtl_{head}", name=head)
    nlp.config["initialize"]["components"] = {
        "transformer": {"encoder_loader": {"@misc": "mtl.HuggingFaceLoader.v1", "name": encoder}}
    }
    examples = labelled(nlp)
    nlp.initialize(lambda: examples)
    train(nlp, examples, steps, adamw(learning_rate))
    nlp.to_disk(folder)


def stock(encoder: str, steps: int, learning_rate: float) -> Language:
    """spacy-transformers with ner and textcat, as spaCy's quickstart configures them."""
    nlp = spacy.blank("en")
    model = {"@architectures": "spacy-transformers.TransformerModel.v3", "name": encoder}
    nlp.add_pipe("transformer", config={"model": model})
    parser = {"@architectures": "spacy.TransitionBasedParser.v2", "state_type": "ner", "extra_state_tokens": False}
    parser |= {"hidden_width": 64, "maxout_pieces": 2, "use_upper": False, "nO": None, "tok2vec": LISTENER}
    nlp.add_pipe("ner", config={"model": parser})
    # After ner: training crashes in spacy-transformers 1.4 if TextCatEnsemble is not the last listener.
    bag_of_words = {"@architectures": "spacy.TextCatBOW.v3", "exclusive_classes": True, "length": 262144, "ngram_size": 1}
    bag_of_words["no_output_layer"] = False
    ensemble = {"@architectures": "spacy.TextCatEnsemble.v2", "tok2vec": LISTENER, "linear_model": bag_of_words}
    nlp.add_pipe("textcat", config={"model": ensemble})
    examples = [example for example in labelled(nlp) if example.reference.cats and example.reference.has_annotation("ENT_IOB")]
    nlp.initialize(lambda: examples)
    optimizer = nlp.create_optimizer()
    optimizer.learn_rate = learning_rate
    train(nlp, examples, steps, optimizer)
    return nlp


def edsnlp_ner(encoder: str, steps: int, learning_rate: float, device: torch.device, prompt: int = 0) -> Any:
    """EDS-NLP's CRF tagger alone on its transformer, with windows that leave room for a prompt of this many subwords."""
    import edsnlp
    import edsnlp.pipes as eds

    nlp = edsnlp.blank("en")
    window = WINDOW - 2 - prompt  # it adds the two special tokens and the prompt
    embedding = eds.transformer(model=encoder, window=window, stride=window - OVERLAP)
    nlp.add_pipe(eds.ner_crf(embedding=embedding, mode="joint", target_span_getter="gold", span_setter="ents"), name="ner")
    docs = []
    for example in labelled(spacy.blank("en")):
        if example.reference.has_annotation("ENT_IOB"):
            doc = nlp.make_doc(example.reference.text)
            spans = (doc.char_span(ent.start_char, ent.end_char, label=ent.label_) for ent in example.reference.ents)
            doc.spans["gold"] = [span for span in spans if span is not None]
            docs.append(doc)
    nlp.post_init(docs)
    nlp.to(device)
    optimizer = torch.optim.AdamW(nlp.parameters(), lr=learning_rate)
    nlp.train(True)
    for step in range(steps):
        batch_docs = [docs[(step * BATCH_DOCS + i) % len(docs)] for i in range(BATCH_DOCS)]
        batch = nlp.collate([nlp.preprocess(doc, supervision=True) for doc in batch_docs])
        batch = {"ner": nlp.get_pipe("ner").batch_to_device(batch["ner"], device)}
        with nlp.cache():
            nlp.get_pipe("ner")(batch["ner"])["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    nlp.train(False)
    return nlp


def edsnlp_ner_qa(encoder: str, steps: int, learning_rate: float, device: torch.device) -> Run:
    """EDS-NLP's CRF tagger and its (untrained) question answering on one transformer."""
    import edsnlp.pipes as eds

    nlp = edsnlp_ner(encoder, steps, learning_rate, device, prompt=16)
    shared = {"embedding": nlp.get_pipe("ner").embedding, "questions_attribute": "questions"}
    nlp.add_pipe(eds.extractive_qa(**shared, target_span_getter="gold", span_setter="answers"), name="qa")
    nlp.to(device).train(False)

    def run(texts: List[str]) -> None:
        docs = [nlp.make_doc(text) for text in texts]
        for doc in docs[::QUESTION_INTERVAL]:
            doc._.questions = {"answer": [QUESTION]}
        for _ in nlp.pipe(docs, batch_size=256):
            pass

    return run


def huggingface(encoder: str, batch_size: int, device: torch.device) -> Run:
    """Token classification, text classification and question answering, each with its own model.

    The tagger predicts no entities, so the work after its forward pass is minimal.
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
        contexts = texts[::QUESTION_INTERVAL]
        questions(
            question=[QUESTION] * len(contexts), context=contexts, handle_impossible_answer=True, max_seq_len=WINDOW,
            doc_stride=OVERLAP,
        )  # fmt: skip

    return run


def bare(
    encoder: str, has_questions: bool, device: torch.device, max_batch_subwords: int = 0, dtype: torch.dtype = torch.float32
) -> Run:
    """Tokenize, cut into our windows, sort by length, pad, run forward: the least that a pipeline with this encoder must do.

    Args:
        encoder (str): A folder or a name on the hub.
        has_questions (bool): Also encode the windows of the questions.
        device (torch.device): Where to run.
        max_batch_subwords (int): Padded subwords per batch; 0 for the number that our encoder uses.
        dtype (torch.dtype): Of the weights.
    """
    tokenizer, model = load_tokenizer(encoder), AutoModel.from_pretrained(resolve_encoder(encoder)).eval()
    model.pooler = None
    model.to(device, dtype)
    max_batch_subwords = max_batch_subwords or good_batch(model, device)
    question = tokenizer.backend_tokenizer.encode(QUESTION).ids[1:-1]

    def run(texts: List[str]) -> None:
        encodings = tokenizer.backend_tokenizer.encode_batch(texts)
        rows = [row for encoding in encodings for row in windows(encoding.ids, [])]
        if has_questions:
            rows += [row for encoding in encodings[::QUESTION_INTERVAL] for row in windows(encoding.ids, question)]
        order = sorted(rows, key=len)
        while order:
            size = 1
            while size < len(order) and (size + 1) * len(order[size]) <= max_batch_subwords:
                size += 1
            batch, order = order[:size], order[size:]
            padded = np.zeros((size, len(batch[-1])), dtype=np.int64)
            mask = np.arange(padded.shape[1]) < np.array([len(row) for row in batch])[:, None]
            padded[mask] = np.concatenate(batch)
            with torch.inference_mode(), plan_free_attention(device):
                inputs = (torch.from_numpy(array).to(device) for array in (padded, mask.astype(np.int64)))
                model(**dict(zip(("input_ids", "attention_mask"), inputs)))
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


def windows(ids: List[int], question: List[int]) -> List[List[int]]:
    """The windows that our encoder makes by default of a text's subwords, each behind the question.

    Args:
        ids (List[int]): The subwords, with [CLS] and [SEP].
        question (List[int]): The question's subwords without them; empty for none.
    """
    body, prefix = ids[1:-1], [ids[0], *question, *([ids[-1]] if question else [])]
    capacity = WINDOW - len(prefix) - 1
    return [[*prefix, *body[i : i + capacity], ids[-1]] for i in window_starts(len(body), capacity, OVERLAP).tolist()]


def through_pipe(nlp: Any, batch_size: int, has_questions: bool) -> Run:
    """Run `nlp.pipe` over the texts, with questions if the pipeline answers them."""

    def run(texts: List[str]) -> None:
        for _ in nlp.pipe(make_docs(nlp, texts, QUESTION) if has_questions else texts, batch_size=batch_size):
            pass

    return run
