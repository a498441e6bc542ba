"""Continued pretraining: packing, masking, the loss, the loop, its folder."""

import gzip
import json
import math
import os
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import spacy
import torch
from conftest import TEXTS, save_tiny, torchrun
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from mtl.adapt.batches import Batches, fixed_batches, share_of
from mtl.adapt.blocks import BlockSettings, load_corpus
from mtl.adapt.checkpoint import Checkpoints, Progress
from mtl.adapt.loop import Adaptation, adapt
from mtl.adapt.settings import AdaptSettings
from mtl.adapt.text import read_documents
from mtl.adapt.trainer import Phase, Trainer
from mtl.adapt.watch import Watch
from mtl.data.docs import write_docs
from mtl.encoder.masking import MaskedBatch, MaskSettings, mask_spans, mask_words, next_pieces
from mtl.encoder.mlm import head_parameters, load_mlm, masked_loss
from mtl.encoder.sources import load_tokenizer
from mtl.errors import UserError


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "domain.txt"
    path.write_text("\n\n".join(TEXTS * 10))
    return str(path)


SMALL = {"length": 32, "batch_blocks": 4, "device": "cpu", "precision": "fp32", "held_out": 0.1}


def test_documents_of_every_kind(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\n\n\nthree\r\n \r\nfour\rfive")
    (tmp_path / "b.jsonl").write_text('{"text": "six"}\n\n{"text": "seven", "label": 1}\n{"text": " "}\n')
    nlp = spacy.blank("en")
    write_docs([nlp.make_doc("eight")], tmp_path / "c.spacy")
    with gzip.open(tmp_path / "d.txt.gz", "wt", encoding="utf-8-sig") as file:
        file.write("nine")
    (tmp_path / "e.jsonl.gz").write_bytes(gzip.compress(b'{"text": "ten"}'))
    pq.write_table(pa.table({"id": [1, 2], "text": ["eleven", None]}), tmp_path / "f.parquet")
    (tmp_path / "notes.pdf").write_text("no")
    expected = ["one\ntwo", "three", "four\nfive", "six", "seven", "eight", "nine", "ten", "eleven"]
    assert read_documents([str(tmp_path)]) == expected
    assert read_documents([str(tmp_path / "[ab].*"), str(tmp_path / "a.txt")]) == expected[:5]  # a file named twice is read once


@pytest.mark.parametrize(
    "name, data, words",
    [
        ("x.pdf", b"a", [".txt, .txt.gz, .jsonl", "'.pdf'"]),
        ("x.txt", b" \n", ["no text found"]),
        ("x.txt.gz", b"not gzip", ["x.txt.gz", "broken"]),
        ("x.txt.gz", gzip.compress(b"a whole document\n" * 1000, mtime=0)[:40], ["x.txt.gz", "broken"]),
        ("x.parquet", b"not parquet", ["x.parquet", "broken"]),
        ("x.txt", b"ok\n\xff", ["line 2", "UTF-8"]),
        ("x.jsonl", b'{"txt": "a"}\n', ["line 1", '"text" is missing']),
    ],
)
def test_text_that_cannot_be_read(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError) as error:
        read_documents([str(tmp_path / name)])
    assert all(word in str(error.value) for word in words)


def corpus_of(documents, tokenizer, folder, length=24, held_out=0.1, seed=0):
    (folder / "text.txt").write_text("\n\n".join(documents))
    said = []
    corpus = load_corpus(
        [str(folder / "text.txt")], tokenizer, BlockSettings(length, held_out, seed), folder / "cache", said.append
    )
    return corpus, said


def test_held_out_documents_are_apart(tiny, tmp_path):
    tokenizer = load_tokenizer(tiny())
    documents = [f"{word} " * 30 for word in "abcdefghijklmnopqrst"]

    def held(seed):
        corpus, _ = corpus_of(documents, tokenizer, tmp_path, seed=seed)
        parts = [{piece for row in part for piece in row["pieces"].tolist()} for part in (corpus.train, corpus.held)]
        specials = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id}
        assert corpus.held_documents == 2 and parts[0] & parts[1] <= specials
        assert (corpus.documents, corpus.words) == (20, 600)
        return parts[1]

    assert held(0) == held(0) != held(1)
    with pytest.raises(UserError, match=r"1 document.* too few"):
        corpus_of(["one"], tokenizer, tmp_path)


def test_shards_are_made_once_and_anew_when_broken_or_outdated(tiny, tmp_path):
    tokenizer = load_tokenizer(tiny())
    first, said = corpus_of(TEXTS * 3, tokenizer, tmp_path)
    assert said == []
    again, said = corpus_of(TEXTS * 3, tokenizer, tmp_path)
    assert again.key == first.key and "tokenised before" in said[0]
    shard = next((tmp_path / "cache" / first.key / "train").glob("*.arrow"))
    rows = [row["pieces"].tolist() for row in again.train]
    data = shard.read_bytes()
    shard.unlink()  # rather than written over, since the dataset above has it mapped
    shard.write_bytes(data[: len(data) // 2])
    mended, said = corpus_of(TEXTS * 3, tokenizer, tmp_path)
    assert str(shard) in said[0] and "tokenised anew" in said[0]
    assert [row["pieces"].tolist() for row in mended.train] == rows
    keys = {corpus_of(TEXTS * 4, tokenizer, tmp_path)[0].key, corpus_of(TEXTS * 3, tokenizer, tmp_path, length=25)[0].key}
    other = load_tokenizer(tiny("roberta"))
    assert len(keys | {first.key, corpus_of(TEXTS * 3, other, tmp_path)[0].key}) == 4


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_blocks_hold_every_wordpiece_once_and_words_whole(tiny, tmp_path, monkeypatch, family):
    tokenizer = load_tokenizer(tiny(family))
    monkeypatch.setattr("mtl.adapt.blocks.TOGETHER", 100)  # several rounds of tokenising
    corpus, _ = corpus_of(TEXTS * 3, tokenizer, tmp_path, held_out=0.0)
    assert corpus.held is None
    documents = read_documents([str(tmp_path / "text.txt")])
    encodings = tokenizer.backend_tokenizer.encode_batch(documents, add_special_tokens=False)
    expected, begins = [], []
    for encoding in encodings:
        expected += [*encoding.ids, tokenizer.sep_token_id]
        begins += [word != before for before, word in zip([None, *encoding.word_ids], [*encoding.word_ids, -1])]
    packed, words = [], []
    for row in corpus.train:
        pieces, own = row["pieces"].tolist(), row["words"].tolist()
        assert len(pieces) == len(own) == 24 and (pieces[0], own[0]) == (tokenizer.cls_token_id, 0)
        inner = [w for w in own if w]
        assert inner == sorted(inner) and inner[0] == 1
        packed += pieces[1:23]
        words += own[1:23]
    left = packed[len(expected) :]  # of the last block: its separator, if it does not end with one's place, and padding
    assert packed[: len(expected)] == expected and len(left) < 22
    assert left[1:] == [tokenizer.pad_token_id] * len(left[1:]) and left[:1] in ([], [tokenizer.sep_token_id])
    for i, piece in enumerate(expected):
        assert (words[i] == 0) == (piece == tokenizer.sep_token_id)
        if i % 22 and words[i] and words[i - 1]:
            assert (words[i] != words[i - 1]) == begins[i]


def test_a_large_vocabulary_fits_too(tiny, tmp_path):
    """Ids above 65,535, which the small type that shards have otherwise could not hold."""
    tokenizer = load_tokenizer(tiny())
    tokenizer.add_tokens([f"word{i}x" for i in range(66_000)])
    corpus, _ = corpus_of(["pump word65990x pump"] * 30, tokenizer, tmp_path, held_out=0.0)
    known = tokenizer.convert_tokens_to_ids("word65990x")
    assert known > 65_535 and (corpus.train[0]["pieces"] == known).sum() > 0


def test_blocks_of_separators_alone_are_left_out(tiny, tmp_path, monkeypatch):
    """Documents that the tokenizer finds nothing in: no block without a word, which could not be masked."""
    tokenizer = load_tokenizer(tiny())
    monkeypatch.setattr("mtl.adapt.blocks.TOGETHER", 50)
    corpus, _ = corpus_of(["pump " * 25, *["\u200b"] * 60, "pump " * 25], tokenizer, tmp_path, held_out=0.0)
    assert corpus.documents == 62 and all(1 in row["words"] for row in corpus.train)
    pieces = 50 * len(tokenizer.backend_tokenizer.encode("pump", add_special_tokens=False).ids)
    assert sum(int((row["words"] > 0).sum()) for row in corpus.train) == pieces


def test_each_block_comes_once_a_pass_and_a_batch_is_known_by_its_number(tiny, tmp_path):
    tokenizer = load_tokenizer(tiny())
    corpus, _ = corpus_of(TEXTS * 20, tokenizer, tmp_path)
    masks = MaskSettings(tokenizer.mask_token_id, len(tokenizer), masked=0.0, random=0.0)
    batches = Batches(corpus.train, 7, masks, tokenizer.pad_token_id, seed=1)
    rows = sorted(row["pieces"].tolist() for row in corpus.train)
    passes = [[batches[turn * batches.per_pass + i][0].pieces for i in range(batches.per_pass)] for turn in range(3)]
    assert all(sorted(torch.cat(one).tolist()) == rows for one in passes)
    assert torch.cat(passes[0]).tolist() != torch.cat(passes[1]).tolist()
    last = 2 * batches.per_pass + 3
    fresh = Batches(corpus.train, 7, masks, tokenizer.pad_token_id, seed=1)[last][0]
    assert torch.equal(fresh.pieces, passes[2][3]) and torch.equal(fresh.chosen, batches[last][0].chosen)
    assert batches.blocks_before(last) == sum(len(pieces) for one in passes for pieces in one) - sum(map(len, passes[2][3:]))
    assert len(passes[0][-1]) < 7 and batches.batches_for(3.0) == 3 * batches.per_pass  # a short batch ends each pass
    for blocks in (1, 7, 7.5, len(rows), 2 * len(rows) + 1):
        number = batches.batches_for(100.0, blocks)
        assert batches.blocks_before(number - 1) < blocks <= batches.blocks_before(number)
    fixed = [fixed_batches(corpus.held, 5, 2, MaskSettings(masks.mask_id, masks.vocab_size, rate), 0) for rate in (0.1, 0.8)]
    assert all(torch.equal(a[0].chosen, b[0].chosen) for a, b in zip(*fixed))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 9), st.floats(0.05, 0.9))
def test_masking_hides_whole_words_and_always_something(seed, blocks, words, rate):
    generator = torch.Generator().manual_seed(seed)
    of_piece = torch.randint(1, 4, (blocks, words), generator=generator)
    width = int(of_piece.sum(1).max()) + 2
    table = torch.zeros(blocks, width, dtype=torch.long)
    for row, lengths in enumerate(of_piece):
        flat = torch.repeat_interleave(torch.arange(1, words + 1), lengths)
        table[row, 1 : 1 + len(flat)] = flat
    pieces = torch.randint(10, 100, table.shape, generator=generator)
    batch = mask_words(pieces, table, MaskSettings(5, 100, rate=rate), generator)
    assert not batch.chosen[table == 0].any() and batch.chosen.any(1).all()
    for row in range(blocks):
        for word in range(1, words + 1):
            own = batch.chosen[row][table[row] == word]
            assert own.all() or not own.any()
    assert torch.equal(batch.pieces[~batch.chosen], pieces[~batch.chosen]) and torch.equal(batch.targets, pieces[batch.chosen])


def test_masking_rates():
    generator = torch.Generator().manual_seed(0)
    words = torch.arange(1, 129).expand(200, 128)
    pieces = torch.randint(10, 1000, words.shape, generator=generator)
    batch = mask_words(pieces, words, MaskSettings(5, 1000, rate=0.15), generator)
    assert batch.chosen.float().mean().item() == pytest.approx(0.15, abs=0.01)
    assert (batch.pieces[batch.chosen] == 5).float().mean().item() == pytest.approx(0.8, abs=0.03)
    assert (batch.pieces[batch.chosen] == batch.targets).float().mean().item() == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "mpnet", "deberta-v2", "modernbert"])
def test_the_loss_at_masked_positions_equals_the_full_one(tiny, family):
    """Logits at the chosen rows only, for each architecture's own head."""
    model, missing = load_mlm(tiny(family))
    model.eval()
    assert missing and head_parameters(model)
    pieces = torch.randint(5, model.config.vocab_size, (3, 20))
    chosen = torch.rand(3, 20) < 0.3
    chosen[0, 0] = True
    batch = MaskedBatch(pieces, chosen, pieces[chosen])
    attention = torch.ones_like(pieces)
    with torch.no_grad():
        full = model(input_ids=pieces, attention_mask=attention).logits[chosen]
        expected = torch.nn.functional.cross_entropy(full, pieces[chosen])
        assert masked_loss(model, batch, attention).item() == pytest.approx(expected.item(), abs=1e-5)
        after = model(input_ids=pieces, attention_mask=attention).logits
    assert after.shape[:2] == (3, 20)  # the hook is gone


def test_adapting_lowers_perplexity_and_leaves_a_plain_folder(tiny, tmp_path):
    """A document repeats one word: unknown to the head alone, known to an encoder that has learned to look around."""
    words = ["the", "pump", "failed", "on", "climb", "out", "of", "oslo"]
    text_file = tmp_path / "domain.txt"
    text_file.write_text("\n\n".join(" ".join([words[i % 8]] * 24) for i in range(40)))
    out = tmp_path / "adapted"
    general = tmp_path / "general.txt"
    general.write_text("A king had three daughters.\n\nThe end.")
    settings_ = AdaptSettings(passes=60, learn_rate=3e-3, **SMALL)
    report = adapt(tiny(), [str(text_file)], out, [str(general)], settings_)
    before, after = report["perplexity_before"], report["perplexity_after"]
    assert after["in-domain"] < before["in-domain"] / 2 and set(after) == {"in-domain", "general"}
    assert report["head_steps"] > 0 and report["tokens"] > 0
    assert json.loads((out / "adapt.json").read_text())["steps"] == report["steps"]
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.mask_token and AutoModel.from_pretrained(out).config.hidden_size == 32
    model = AutoModelForMaskedLM.from_pretrained(out)
    logits = model(**tokenizer("The [MASK]", return_tensors="pt")).logits
    assert torch.isfinite(logits).all()
    for file in out.iterdir():
        assert str(tmp_path).encode() not in file.read_bytes() and not file.name.endswith(".bin")
    again = Adaptation(str(out), settings_)
    assert again.missing == []  # the head is in the folder: no second warm-up


def test_the_head_warms_up_with_the_encoder_frozen(tiny, text_file, tmp_path, monkeypatch):
    run = Adaptation(tiny(), AdaptSettings(passes=3, **SMALL))
    before = {name: p.clone() for name, p in run.model.base_model.named_parameters()}
    seen = []
    real = Adaptation._losses

    def check(self, measured):
        seen.append(all(torch.equal(before[name], p) for name, p in self.model.base_model.named_parameters()))
        return real(self, measured)

    monkeypatch.setattr(Adaptation, "_losses", check)
    run.run([text_file], [], tmp_path / "out")
    assert seen == [True, False, False, False, False]  # untouched at the first evaluation, trained at the others


def test_evaluation_masks_are_fixed_and_runs_repeat(tiny, text_file, tmp_path):
    one, two = (adapt(tiny(), [text_file], tmp_path / name, settings=AdaptSettings(passes=2, **SMALL)) for name in "ab")
    assert one["perplexity_after"] == two["perplexity_after"] and one["perplexity_before"] == two["perplexity_before"]


def test_budgets(tiny, text_file, tmp_path):
    report = adapt(tiny(), [text_file], tmp_path / "out", settings=AdaptSettings(passes=50, max_steps=7, **SMALL))
    assert report["steps"] == 7
    report = adapt(tiny(), [text_file], tmp_path / "out", settings=AdaptSettings(passes=5000, minutes=0.03, **SMALL))
    assert report["steps"] < 5000


def test_several_passes_a_step_add_up(tiny, text_file, tmp_path):
    """The gradient of a step is the mean of its forward passes'."""
    run = Adaptation(tiny(), AdaptSettings(**SMALL))
    run.model.eval()
    corpus = load_corpus([text_file], run.tokenizer, BlockSettings(32, 0.1, 0), tmp_path / "blocks", print)
    trainer = run.trainer(corpus, None, Checkpoints(tmp_path / "none", 1, {}))
    batches = trainer.batches
    parameters = list(run.model.parameters())

    class Keep:
        def step(self):
            self.gradients = [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]

        def zero_grad(self, set_to_none):
            run.model.zero_grad()

    keep, single = Keep(), []
    for number in (4, 5):
        loss = masked_loss(run.model, *batches[number])
        loss.backward()
        single.append([parameter.grad.clone() for parameter in parameters if parameter.grad is not None])
        run.model.zero_grad()
    run.settings.accumulate = 2
    trainer.step(keep, 2, [torch.nn.Parameter(torch.zeros(1))])
    for one, two, both in zip(*single, keep.gradients):
        assert torch.allclose((one + two) / 2, both, atol=1e-6)


def test_the_rate_rises_stays_and_falls():
    settings_ = AdaptSettings(warmup=0.1, decay=0.2)
    phase = Phase("encoder", [], 1.0, steps=100, minutes=0)
    rates = [phase.rate(Progress(phase_step=step), settings_) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 11) and rates[:11] == sorted(rates[:11])
    assert all(rate == pytest.approx(1.0) for rate in rates[10:80]) and rates[90] == pytest.approx(0.5) and rates[99] < 0.06
    timed = Phase("encoder", [], 1.0, steps=100, minutes=1)
    assert timed.rate(Progress(phase_step=50, phase_seconds=54), settings_) == pytest.approx(0.5)
    assert timed.spent(Progress(phase_step=50, phase_seconds=61)) > 1


def test_budget_in_tokens_and_gradient_checkpointing(tiny, text_file, tmp_path):
    plain, spared = (
        adapt(tiny(), [text_file], tmp_path / name, settings=AdaptSettings(tokens=900, gradient_checkpointing=spare, **SMALL))
        for name, spare in (("plain", False), ("spared", True))
    )
    assert plain["steps"] == 8 and plain["tokens"] == 1024  # the least steps of 4 * 32 that hold so many
    assert spared["perplexity_after"]["in-domain"] == pytest.approx(plain["perplexity_after"]["in-domain"], rel=1e-4)


RUN = """
import pathlib, sys
from mtl.adapt.checkpoint import Checkpoints
from mtl.adapt.loop import adapt
from mtl.adapt.settings import AdaptSettings
real = Checkpoints.save
def save(self, model, optimizer, progress):
    real(self, model, optimizer, progress)
    print("saved", progress.step, flush=True)
Checkpoints.save = save
settings = AdaptSettings(passes=4, learn_rate=3e-3, checkpoint_minutes=1e-9, length=32, batch_blocks=4, device="cpu",
                         precision="fp32", held_out=0.1)
adapt(sys.argv[1], [sys.argv[2]], pathlib.Path(sys.argv[3]), settings=settings)
"""


@pytest.mark.parametrize("after", [3, 17])  # in the head's warm-up, in the encoder's training
def test_a_killed_run_goes_on_to_the_same_weights(tiny, text_file, tmp_path, after):
    """SIGKILL after that many checkpoints, wherever it strikes; dropout, order and masks are as in a run that was let be."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    command = [sys.executable, "-c", RUN, tiny(), text_file]
    subprocess.run([*command, str(tmp_path / "a" / "out")], check=True, capture_output=True)
    with subprocess.Popen([*command, str(tmp_path / "b" / "out")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        for _ in range(after):
            while not process.stdout.readline().startswith(b"saved"):
                assert process.poll() is None
        time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert not (tmp_path / "b" / "out").exists()
    assert 1 <= len(list((tmp_path / "b" / "out.checkpoints").glob("step-*"))) <= 3
    done = subprocess.run([*command, str(tmp_path / "b" / "out")], check=True, capture_output=True, text=True)
    assert "going on from" in done.stdout
    reports = [json.loads((tmp_path / name / "out" / "adapt.json").read_text()) for name in "ab"]
    for key in ("steps", "head_steps", "tokens", "perplexity_before", "perplexity_after"):
        assert reports[0][key] == reports[1][key]
    weights = [(tmp_path / name / "out" / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    assert not (tmp_path / "b" / "out.checkpoints").exists()


def test_general_text_is_replayed_in_its_share(tiny, tmp_path):
    tokenizer = load_tokenizer(tiny())
    (tmp_path / "other").mkdir()
    domain, _ = corpus_of(TEXTS * 20, tokenizer, tmp_path)
    general, _ = corpus_of(["a king had three daughters " * 8] * 4, tokenizer, tmp_path / "other")
    masks = MaskSettings(tokenizer.mask_token_id, len(tokenizer), masked=0.0, random=0.0)

    def make():
        return Batches(domain.train, 7, masks, tokenizer.pad_token_id, 1, general.train, 0.3)

    batches = make()
    rows = {tuple(row["pieces"].tolist()) for row in domain.train}
    number = 4 * batches.per_pass
    every = [[tuple(row) for row in batches[i][0].pieces.tolist()] for i in range(number)]
    replayed = [row for batch in every for row in batch if row not in rows]
    assert len(replayed) / sum(map(len, every)) == pytest.approx(0.3, abs=0.02)
    assert batches.blocks_before(number) == sum(map(len, every)) == 4 * len(domain.train) + len(replayed)
    assert batches.domain_blocks_before(number) == 4 * len(domain.train)
    counts = [replayed.count(row) for row in set(replayed)]
    assert len(counts) == len({tuple(row["pieces"].tolist()) for row in general.train})
    assert torch.equal(make()[9][0].chosen, batches[9][0].chosen) and torch.equal(make()[9][0].pieces, batches[9][0].pieces)


def test_the_best_weights_are_kept_and_given_back(tmp_path):
    """Losses that are given here: the third evaluation is best, but has forgotten too much; the second is."""
    model = torch.nn.Linear(1, 1, bias=False)
    losses = iter([(5.0, 2.0), (4.0, 2.1), (3.0, 2.6), (4.5, 2.2)])
    progress = Progress()
    measure = lambda: dict(zip(("in-domain", "general"), next(losses)))  # noqa: E731
    watch = Watch(measure, Checkpoints(tmp_path / "run", 1, {}), 2, 0.5, writes=True)
    over = []
    for step in range(4):
        torch.nn.init.constant_(model.weight, step)
        progress.step = step
        watch.evaluate(model, progress)
        over.append(watch.forgot(progress))
    assert over == [False, False, True, False] and not watch.diverged(progress)
    assert watch.best(progress)["step"] == 1
    watch.restore(model, progress)
    assert model.weight.item() == 1.0
    fresh = Progress(evaluations=[{}])
    assert not watch.due(0.49, fresh) and watch.due(0.5, fresh)
    assert not watch.due(0.99, Progress(evaluations=[{}, {}])) and watch.due(1.0, Progress(evaluations=[{}, {}]))


def test_a_run_that_forgets_stops_and_saves_what_was_within_the_budget(tiny, text_file, tmp_path):
    general = tmp_path / "general.txt"
    general.write_text("\n\n".join(f"A king had {word} daughters." for word in ("two", "three", "four", "five", "six") * 8))
    changes = {"passes": 40, "learn_rate": 5e-3, "evaluations": 8, "replay": 0.0, "max_forgetting": 0.05}
    said = []
    run = Adaptation(tiny(), AdaptSettings(**SMALL, **changes), said.append)
    report = run.run([text_file], [str(general)], tmp_path / "out")
    losses = [found["losses"]["general"] for found in report["evaluations"]]
    assert losses[-1] > losses[0] + 0.05 and all(loss <= losses[0] + 0.05 for loss in losses[:-1])
    assert len(losses) < 9 and "more than max-forgetting = 0.05" in report["stopped"]
    assert any(line.startswith("stopped: ") for line in said)
    assert math.log(report["perplexity_after"]["general"]) <= losses[0] + 0.05
    again = Adaptation(str(tmp_path / "out"), AdaptSettings(**SMALL, **changes))
    corpora = again._read([text_file], [str(general)], tmp_path / "blocks", None)
    found = again.trainer(*corpora, Checkpoints(tmp_path / "none", 1, {})).watch.measure()
    assert found["in-domain"] == pytest.approx(math.log(report["perplexity_after"]["in-domain"]), abs=1e-4)
    with pytest.raises(UserError, match="max-forgetting is measured on general text"):
        run.run([text_file], [], tmp_path / "out")


def test_each_layer_learns_at_its_own_rate(tiny, text_file, tmp_path):
    run = Adaptation(tiny(), AdaptSettings(layer_decay=0.5, **SMALL))
    corpora = run._read([text_file], [], tmp_path / "blocks", None)
    trainer = run.trainer(*corpora, Checkpoints(tmp_path / "none", 1, {}))
    optimizer = trainer.optimizer(Phase("encoder", list(run.model.parameters()), 1.0, 10, 0))
    names = {id(parameter): name for name, parameter in run.model.named_parameters()}
    factors = {names[id(p)]: group["factor"] for group in optimizer.param_groups for p in group["params"]}
    assert len(factors) == len(names)
    top = trainer.model.config.num_hidden_layers
    assert factors["bert.embeddings.word_embeddings.weight"] == 0.5 ** (top + 1)
    assert factors[f"bert.encoder.layer.{top - 1}.output.dense.weight"] == 0.5
    assert factors["cls.predictions.transform.dense.weight"] == 1.0


@pytest.mark.parametrize("several", [1, 2, 3, 5])
def test_shares_of_a_batch_add_up_to_it(tiny, several):
    model, _ = load_mlm(tiny())
    model.eval()
    pieces = torch.randint(5, model.config.vocab_size, (4, 20))
    chosen = torch.rand(4, 20) < 0.3
    chosen[:, 0] = True
    batch = MaskedBatch(pieces, chosen, pieces[chosen]), torch.ones_like(pieces)
    shares = [share_of(batch, number, several) for number in range(several)]
    with torch.no_grad():
        losses = [weight * masked_loss(model, *share).item() for share, weight in shares]
        assert sum(losses) / several == pytest.approx(masked_loss(model, *batch).item(), rel=1e-5)
    assert sum(len(share[0].pieces) for share, weight in shares if weight) == 4


def test_two_processes_learn_what_one_does(tmp_path):
    """The same global batch, without dropout: the same weights to float tolerance, one folder, one voice."""
    pytest.importorskip("accelerate", reason="several processes need it: pip install spacy-mtl[distributed]")
    encoder = save_tiny("bert", tmp_path / "encoder", hidden_dropout_prob=0.0)
    text_file = tmp_path / "domain.txt"
    text_file.write_text("\n\n".join(" ".join([word] * 24) for word in ("pump", "failed", "climb", "oslo") * 10))
    more = ["--passes", "8", "--no-clean", "--length", "32", "--batch-blocks", "5", "--device", "cpu", "--precision", "fp32",
            "--held-out", "0.1", "--learn-rate", "0.003", "--accumulate", "2"]  # fmt: skip
    said = {}
    for name, start in (("one", [sys.executable, "-m"]), ("two", torchrun())):
        command = [*start, "mtl", "adapt", encoder, str(text_file), *more, "--out", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stderr[-3000:]
        said[name] = done.stdout
    reports = [json.loads((tmp_path / name / "adapt.json").read_text()) for name in said]
    assert reports[0]["steps"] == reports[1]["steps"] and reports[0]["tokens"] == reports[1]["tokens"]
    for part in ("perplexity_before", "perplexity_after"):
        assert reports[1][part]["in-domain"] == pytest.approx(reports[0][part]["in-domain"], rel=1e-4)
    weights = [load_file(tmp_path / name / "model.safetensors") for name in said]
    untrained = load_mlm(encoder)[0].state_dict()
    for key, one in weights[0].items():
        assert torch.allclose(one, weights[1][key], atol=1e-4), key
    key = "bert.encoder.layer.0.output.dense.weight"
    assert (weights[0][key] - untrained[key]).abs().max() > 1e-3
    assert said["two"].count("perplexity, in-domain") == said["two"].count("tokens in") == 1


def adapt_until(step, encoder, text_file, out, monkeypatch):
    """A run that Ctrl-C ends in that step."""
    whole = Trainer.step

    def interrupt(self, optimizer, number, *rest):
        if number == step - 1:
            raise KeyboardInterrupt
        return whole(self, optimizer, number, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "step", interrupt)
        return adapt(encoder, [text_file], out, settings=AdaptSettings(passes=4, **SMALL))


@pytest.fixture
def interrupted(tiny, text_file, tmp_path, monkeypatch):
    """The folder of a run ended by Ctrl-C while the encoder trains, with its checkpoint."""
    adapt_until(30, tiny(), text_file, tmp_path / "out", monkeypatch)
    return tmp_path / "out"


def test_ctrl_c_saves_what_was_learned(interrupted):
    report = json.loads((interrupted / "adapt.json").read_text())
    assert report["interrupted"] and report["steps"] == 29 and math.isfinite(report["perplexity_after"]["in-domain"])
    assert AutoModel.from_pretrained(interrupted)


def test_ctrl_c_while_the_head_warms_up(tiny, text_file, tmp_path, monkeypatch):
    report = adapt_until(9, tiny(), text_file, tmp_path / "out", monkeypatch)
    assert report["interrupted"] and report["steps"] == 8 and math.isfinite(report["perplexity_after"]["in-domain"])
    assert AutoModel.from_pretrained(tmp_path / "out")


def test_after_ctrl_c_the_same_command_goes_on_also_with_another_budget(tiny, text_file, interrupted):
    report = adapt(tiny(), [text_file], interrupted, settings=AdaptSettings(passes=5, **SMALL))
    assert report["steps"] == 65 and not report["interrupted"] and not interrupted.with_name("out.checkpoints").exists()


def test_a_checkpoint_of_another_run_is_refused(tiny, text_file, interrupted):
    with pytest.raises(UserError, match=r"step-00000029: .*learn_rate was 0.0001, is now 0.5.* --no-resume"):
        adapt(tiny(), [text_file], interrupted, settings=AdaptSettings(passes=4, learn_rate=0.5, **SMALL))
    with pytest.raises(UserError, match=r"model was .*BertForMaskedLM"):
        adapt(tiny("roberta"), [text_file], interrupted, settings=AdaptSettings(passes=4, **SMALL))
    report = adapt(tiny(), [text_file], interrupted, settings=AdaptSettings(max_steps=5, learn_rate=0.01, **SMALL), resume=False)
    assert report["steps"] == 5


def test_a_broken_checkpoint_is_named(tiny, text_file, interrupted):
    file = interrupted.with_name("out.checkpoints") / "step-00000029" / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=r"step-00000029/optimizer.safetensors: the checkpoint is broken"):
        adapt(tiny(), [text_file], interrupted, settings=AdaptSettings(passes=4, **SMALL))


def test_a_disk_that_fills_while_the_text_is_tokenised(tiny, tmp_path, monkeypatch):
    """datasets wraps what the writer meets in an error of its own."""
    from datasets.arrow_writer import ArrowWriter

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ArrowWriter, "write", full)
    with pytest.raises(UserError, match=r"not enough disk space to write .*cache"):
        corpus_of(TEXTS * 10, load_tokenizer(tiny()), tmp_path)
    assert not list((tmp_path / "cache").glob("*"))


def test_the_newest_checkpoints_are_kept(tmp_path):
    model = torch.nn.Linear(2, 1)
    optimizer, checkpoints = torch.optim.AdamW(model.parameters()), Checkpoints(tmp_path / "c", 2, {})
    for step in (5, 10, 15):
        checkpoints.save(model, optimizer, Progress(step=step))
    assert [path.name for path in checkpoints.all()] == ["step-00000010", "step-00000015"]
    assert checkpoints.newest() == tmp_path / "c" / "step-00000015"


def test_a_failed_save_keeps_the_old_folder(tiny, text_file, tmp_path, monkeypatch):
    out = tmp_path / "out"
    adapt(tiny(), [text_file], out, settings=AdaptSettings(max_steps=2, **SMALL))
    before = (out / "model.safetensors").read_bytes()
    run = Adaptation(tiny(), AdaptSettings(max_steps=2, **SMALL))

    def full(folder, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run.model, "save_pretrained", full)
    with pytest.raises(UserError, match="not enough disk space"):
        run.run([text_file], [], out)
    assert (out / "model.safetensors").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"length": 100}, ["length = 100", "64"]),
        ({"precision": "fp16"}, ["precision", "'bf16'"]),
        ({"rate": 2.0}, ["rate = 2.0"]),
        ({"held_out": 0.0}, ["held-out"]),
        ({"minutes": -1}, ["minutes = -1"]),
        ({"max_steps": -3}, ["max-steps = -3"]),
        ({"learn_rate": -1.0}, ["learn-rate = -1.0"]),
    ],
)
def test_bad_settings_are_named(tiny, changes, words):
    with pytest.raises(UserError) as error:
        Adaptation(tiny(), AdaptSettings(**{**SMALL, **changes}))
    assert all(word in str(error.value) for word in words)


def test_nothing_worthless_is_saved(tiny, text_file, tmp_path):
    with pytest.raises(UserError, match=r"learn-rate = 10000.* too high"):
        adapt(tiny(), [text_file], tmp_path / "out", settings=AdaptSettings(max_steps=20, learn_rate=1e4, **SMALL))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    with pytest.raises(UserError, match=r"mine.*adapt.json is not in it"):
        adapt(tiny(), [text_file], tmp_path / "mine", settings=AdaptSettings(max_steps=1, **SMALL))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["blocks", "domain.txt", "mine"]


def test_a_decoder_learns_the_next_wordpiece(tiny, tmp_path):
    (tmp_path / "domain.txt").write_text("\n\n".join(["one two three four five six seven eight"] * 60))
    report = adapt(
        tiny("gpt2"),
        [str(tmp_path / "domain.txt")],
        tmp_path / "out",
        settings=AdaptSettings(passes=30, learn_rate=3e-3, **SMALL),
    )
    assert report["objective"] == "next" and report["head_steps"] == 0
    assert report["perplexity_after"]["in-domain"] < report["perplexity_before"]["in-domain"] / 3
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path / "out"), AutoTokenizer.from_pretrained(tmp_path / "out")
    known = tokenizer("one two three four", return_tensors="pt")
    following = tokenizer("one two three four five")["input_ids"][known["input_ids"].shape[1]]
    assert model(**known).logits[0, -1].argmax().item() == following
    with pytest.raises(UserError, match="no mask token, which objective = 'words' needs; for a decoder set objective = \"next\""):
        Adaptation(tiny("gpt2"), AdaptSettings(objective="words", **SMALL))
    with pytest.raises(UserError, match=r'objective = "next" is for decoders, and encoder .* is a bert'):
        Adaptation(tiny(), AdaptSettings(objective="next", **SMALL))


def test_next_wordpieces_are_of_words():
    pieces = torch.tensor([[1, 10, 11, 12, 2, 13, 2, 0]])
    batch = next_pieces(pieces, torch.tensor([[0, 1, 1, 2, 0, 3, 0, 0]]), MaskSettings(-1, 20), torch.Generator())
    assert batch.chosen[0].tolist() == [True, True, True, False, True, False, False, False]
    assert batch.targets.tolist() == [10, 11, 12, 13] and torch.equal(batch.pieces, pieces)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 60), st.floats(0.05, 0.9))
def test_masked_spans_are_whole_words_in_their_share(seed, blocks, words, rate):
    generator = torch.Generator().manual_seed(seed)
    table = torch.repeat_interleave(torch.arange(1, words + 1), 2).expand(blocks, -1)
    pieces = torch.randint(10, 100, table.shape, generator=generator)
    batch = mask_spans(pieces, table, MaskSettings(5, 100, rate=rate, kind="spans"), generator)
    of_word = batch.chosen.view(blocks, words, 2)
    assert torch.equal(of_word[..., 0], of_word[..., 1])
    assert (of_word[..., 0].sum(1) == max(1, round(rate * words))).all()
    assert torch.equal(batch.pieces[~batch.chosen], pieces[~batch.chosen]) and torch.equal(batch.targets, pieces[batch.chosen])


def test_spans_are_longer_than_words_and_hidden_as_one():
    generator = torch.Generator().manual_seed(0)
    words = torch.arange(1, 513).expand(60, 512)
    pieces = torch.randint(10, 1000, words.shape, generator=generator)
    batch = mask_spans(pieces, words, MaskSettings(5, 1000, rate=0.15, kind="spans"), generator)
    starts = (batch.chosen & ~batch.chosen.roll(1, 1)).sum().item()
    assert 3 < batch.chosen.sum().item() / starts < 5.5  # a mean of 3.8, and some that touch
    assert (batch.pieces[batch.chosen] == 5).float().mean().item() == pytest.approx(0.8, abs=0.05)
    both = batch.chosen[:, 1:] & batch.chosen[:, :-1]
    same = (batch.pieces[:, 1:][both] == 5) == (batch.pieces[:, :-1][both] == 5)
    assert same.float().mean() > 0.9


def test_spans_as_objective_are_measured_as_words_are(tiny, text_file, tmp_path):
    report = adapt(tiny(), [text_file], tmp_path / "spans", settings=AdaptSettings(objective="spans", **SMALL))
    words = adapt(tiny(), [text_file], tmp_path / "words", settings=AdaptSettings(max_steps=1, **SMALL))
    assert report["objective"] == "spans" and report["steps"] > 1
    assert len(report["evaluations"]) == 5 and words["objective"] == "words"


def test_lora_trains_few_weights_and_is_merged(tiny, text_file, tmp_path):
    pytest.importorskip("peft", reason="needs it: pip install spacy-mtl[lora]")
    settings_ = AdaptSettings(passes=12, lora=2, learn_rate=1e-2, **SMALL)
    run = Adaptation(tiny(), settings_)
    before = {name: p.detach().clone() for name, p in run.model.base_model.named_parameters() if "lora_" not in name}
    trainer = run.trainer(*run._read([text_file], [], tmp_path / "blocks", None), Checkpoints(tmp_path / "none", 1, {}))
    *_, phase = trainer._phases(10)
    assert {name for name, p in run.model.base_model.named_parameters() if any(p is own for own in phase.parameters)} == {
        name for name, _ in run.model.base_model.named_parameters() if "lora_" in name
    }
    report = run.run([text_file], [], tmp_path / "out")
    assert report["perplexity_after"]["in-domain"] < report["perplexity_before"]["in-domain"]
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert not any("lora" in name or "base_layer" in name for name in stored)
    changed = {name for name, one in before.items() if not torch.equal(stored["bert." + name.replace(".base_layer", "")], one)}
    assert changed and all(name.endswith("base_layer.weight") for name in changed)
    again = Adaptation(str(tmp_path / "out"), AdaptSettings(**SMALL))
    corpora = again._read([text_file], [], tmp_path / "blocks", None)
    found = again.trainer(*corpora, Checkpoints(tmp_path / "none", 1, {})).watch.measure()
    assert found["in-domain"] == pytest.approx(math.log(report["perplexity_after"]["in-domain"]), abs=1e-3)


def test_minutes_in_which_no_step_fits(tiny, text_file, tmp_path):
    with pytest.raises(UserError, match=r"minutes = 1e-06: one step takes .* s that are for the head. Give more minutes"):
        adapt(tiny(), [text_file], tmp_path / "out", settings=AdaptSettings(minutes=1e-6, **SMALL))
    assert not (tmp_path / "out").exists()


def test_a_packaged_encoder_with_other_weights_is_refused(tmp_path, monkeypatch):
    import importlib.util
    from types import SimpleNamespace

    import mtl.encoder.sources as sources

    save_tiny("bert", tmp_path / "model")
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(UserError, match="not the published ones"):
        sources.resolve_encoder("sentence-transformers/all-MiniLM-L6-v2")
