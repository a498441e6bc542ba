"""Continued pretraining: packing, masking, the loss, the training loop, the folder it writes."""

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

from mtl.adaptation import blocks as blocks_module
from mtl.adaptation.batches import BlockBatch, TrainingBatches, evaluation_batches, shard_of
from mtl.adaptation.blocks import BlockSettings, load_corpus
from mtl.adaptation.checkpoint import AdaptCheckpoints, Progress
from mtl.adaptation.monitor import Monitor
from mtl.adaptation.objective import Objective, load_objective
from mtl.adaptation.phases import Phase, make_optimizer, remaining_phases
from mtl.adaptation.run import Adaptation, adapt
from mtl.adaptation.settings import AdaptSettings
from mtl.adaptation.text import read_documents
from mtl.adaptation.trainer import Trainer
from mtl.data.docs import write_docs
from mtl.encoder.model.masking import MaskedBatch, MaskSettings, mask_spans, mask_words, select_next_subwords
from mtl.encoder.model.mlm import head_parameters, load_mlm, masked_loss
from mtl.encoder.pretrained.sources import load_tokenizer
from mtl.errors import UserError


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "domain.txt"
    path.write_text("\n\n".join(TEXTS * 10))
    return str(path)


SMALL = {"block_size": 32, "batch_size": 4, "device": "cpu", "precision": "fp32", "validation_split": 0.1}


def test_documents_are_read_from_every_format(tmp_path):
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
    assert (
        read_documents([str(tmp_path / "[ab].*"), str(tmp_path / "a.txt")]) == expected[:5]
    )  # a file that is named twice is read once


@pytest.mark.parametrize(
    "name, data, parts",
    [
        ("x.pdf", b"a", [".txt, .txt.gz, .jsonl", "'.pdf'"]),
        ("x.txt", b" \n", ["no text found"]),
        ("x.txt.gz", b"not gzip", ["x.txt.gz", "damaged"]),
        ("x.txt.gz", gzip.compress(b"a whole document\n" * 1000, mtime=0)[:40], ["x.txt.gz", "damaged"]),
        ("x.parquet", b"not parquet", ["x.parquet", "damaged"]),
        ("x.txt", b"ok\n\xff", ["line 2", "UTF-8"]),
        ("x.jsonl", b'{"txt": "a"}\n', ["line 1", '"text" is missing']),
    ],
)
def test_the_message_about_unreadable_text_names_file_and_problem(tmp_path, name, data, parts):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError) as error:
        read_documents([str(tmp_path / name)])
    assert all(part in str(error.value) for part in parts)


def corpus_of(documents, tokenizer, folder, block_size=24, validation_split=0.1, seed=0):
    (folder / "text.txt").write_text("\n\n".join(documents))
    messages = []
    settings_ = BlockSettings(block_size, validation_split, seed)
    corpus = load_corpus([str(folder / "text.txt")], tokenizer, settings_, folder / "cache", messages.append)
    return corpus, messages


def test_training_and_held_out_blocks_share_no_document(tiny, tmp_path):
    tokenizer = load_tokenizer(tiny())
    documents = [f"{word} " * 30 for word in "abcdefghijklmnopqrst"]

    def held_out_subwords(seed):
        corpus, _ = corpus_of(documents, tokenizer, tmp_path, seed=seed)
        train, held_out = (
            {subword for row in part for subword in row["subwords"].tolist()} for part in (corpus.train, corpus.held_out)
        )
        specials = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id}
        assert corpus.held_out_documents == 2 and train & held_out <= specials and held_out - specials
        assert (corpus.documents, corpus.words) == (20, 600)
        return held_out

    assert held_out_subwords(0) == held_out_subwords(0) != held_out_subwords(1)
    with pytest.raises(UserError, match=r"1 document.* too few"):
        corpus_of(["one"], tokenizer, tmp_path)


def test_shards_are_written_once_and_again_if_damaged_or_outdated(tiny, tmp_path):
    tokenizer = load_tokenizer(tiny())
    first, messages = corpus_of(TEXTS * 3, tokenizer, tmp_path)
    assert messages == []
    again, messages = corpus_of(TEXTS * 3, tokenizer, tmp_path)
    assert again.key == first.key and "using the tokenized text in" in messages[0]
    shard = next((tmp_path / "cache" / first.key / "train").glob("*.arrow"))
    rows = [row["subwords"].tolist() for row in again.train]
    data = shard.read_bytes()
    shard.unlink()  # not overwritten, since the dataset above has it mapped
    shard.write_bytes(data[: len(data) // 2])
    repaired, messages = corpus_of(TEXTS * 3, tokenizer, tmp_path)
    assert str(shard) in messages[0] and "tokenized again" in messages[0]
    assert [row["subwords"].tolist() for row in repaired.train] == rows
    keys = {corpus_of(TEXTS * 4, tokenizer, tmp_path)[0].key, corpus_of(TEXTS * 3, tokenizer, tmp_path, block_size=25)[0].key}
    other_tokenizer = load_tokenizer(tiny("roberta"))
    assert len(keys | {first.key, corpus_of(TEXTS * 3, other_tokenizer, tmp_path)[0].key}) == 4


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_blocks_hold_every_subword_once_and_number_its_word(tiny, tmp_path, monkeypatch, family):
    tokenizer = load_tokenizer(tiny(family))
    monkeypatch.setattr(blocks_module, "CHUNK_CHARACTERS", 100)  # several rounds of tokenization
    corpus, _ = corpus_of(TEXTS * 3, tokenizer, tmp_path, validation_split=0.0)
    assert corpus.held_out is None
    documents = read_documents([str(tmp_path / "text.txt")])
    encodings = tokenizer.backend_tokenizer.encode_batch(documents, add_special_tokens=False)
    expected, starts_word = [], []
    for encoding in encodings:
        expected += [*encoding.ids, tokenizer.sep_token_id]
        pairs = zip([None, *encoding.word_ids], [*encoding.word_ids, -1])
        starts_word += [word != previous for previous, word in pairs]
    packed, words = [], []
    for row in corpus.train:
        row_subwords, row_words = row["subwords"].tolist(), row["words"].tolist()
        assert len(row_subwords) == len(row_words) == 24 and (row_subwords[0], row_words[0]) == (tokenizer.cls_token_id, 0)
        numbers = [word for word in row_words if word]
        assert numbers == sorted(numbers) and numbers[0] == 1
        packed += row_subwords[1:23]
        words += row_words[1:23]
    rest = packed[len(expected) :]  # of the last block: its separator, if it does not end with one's place, and padding
    assert packed[: len(expected)] == expected and len(rest) < 22
    assert rest[1:] == [tokenizer.pad_token_id] * len(rest[1:]) and rest[:1] in ([], [tokenizer.sep_token_id])
    for i, subword in enumerate(expected):
        assert (words[i] == 0) == (subword == tokenizer.sep_token_id)
        if i % 22 and words[i] and words[i - 1]:
            assert (words[i] != words[i - 1]) == starts_word[i]


def test_ids_above_65535_are_stored_exactly(tiny, tmp_path):
    """Smaller vocabularies are stored as 16-bit numbers."""
    tokenizer = load_tokenizer(tiny())
    tokenizer.add_tokens([f"word{i}x" for i in range(66_000)])
    corpus, _ = corpus_of(["pump word65990x pump"] * 30, tokenizer, tmp_path, validation_split=0.0)
    added_id = tokenizer.convert_tokens_to_ids("word65990x")
    assert added_id > 65_535 and (corpus.train[0]["subwords"] == added_id).sum() > 0


def test_blocks_of_only_separators_are_left_out(tiny, tmp_path, monkeypatch):
    """Documents in which the tokenizer finds nothing make no block without a word, which could not be masked."""
    tokenizer = load_tokenizer(tiny())
    monkeypatch.setattr(blocks_module, "CHUNK_CHARACTERS", 50)
    corpus, _ = corpus_of(["pump " * 25, *["\u200b"] * 60, "pump " * 25], tokenizer, tmp_path, validation_split=0.0)
    assert corpus.documents == 62 and all(1 in row["words"] for row in corpus.train)
    expected = 50 * len(tokenizer.backend_tokenizer.encode("pump", add_special_tokens=False).ids)
    assert sum(int((row["words"] > 0).sum()) for row in corpus.train) == expected


def test_each_block_comes_once_an_epoch_and_a_batch_depends_on_its_number_alone(tiny, tmp_path):
    tokenizer = load_tokenizer(tiny())
    corpus, _ = corpus_of(TEXTS * 20, tokenizer, tmp_path)
    masks = MaskSettings(tokenizer.mask_token_id, len(tokenizer), mask_fraction=0.0, random_fraction=0.0)
    batches = TrainingBatches(corpus.train, 7, masks, tokenizer.pad_token_id, seed=1)
    rows = sorted(row["subwords"].tolist() for row in corpus.train)
    drawn = [batches[i].masked.input_ids for i in range(3 * len(rows) // 7 + 1)]
    assert len(rows) % 7 and {len(batch) for batch in drawn} == {7}  # a smaller batch would weigh its words more
    epochs = torch.cat(drawn)[: 3 * len(rows)].split(len(rows))
    assert all(sorted(epoch.tolist()) == rows for epoch in epochs)
    assert epochs[0].tolist() != epochs[1].tolist()
    last = len(drawn) - 3
    fresh = TrainingBatches(corpus.train, 7, masks, tokenizer.pad_token_id, seed=1)[last].masked
    assert torch.equal(fresh.input_ids, drawn[last]) and torch.equal(fresh.selected, batches[last].masked.selected)
    assert batches.blocks_before(last) == 7 * last
    for passes in (0.1, 1.0, 3.0):
        assert batches.batches_for(passes) == math.ceil(passes * len(rows) / 7)
    for count in (1, 7, 7.5, len(rows), 2 * len(rows) + 1):
        number = batches.batches_for(100.0, count)
        assert batches.blocks_before(number - 1) < count <= batches.blocks_before(number)


def test_evaluation_masks_do_not_depend_on_how_training_masks(tiny, tmp_path):
    tokenizer = load_tokenizer(tiny())
    corpus, _ = corpus_of(TEXTS * 20, tokenizer, tmp_path)
    mask_id, vocab_size = tokenizer.mask_token_id, len(tokenizer)
    variants = [
        evaluation_batches(corpus.held_out, 5, 2, masks, tokenizer.pad_token_id)
        for masks in (
            MaskSettings(mask_id, vocab_size, 0.1),
            MaskSettings(mask_id, vocab_size, 0.8),
            MaskSettings(mask_id, vocab_size, 0.2, objective="span_mlm"),
        )
    ]
    for first, *others in zip(*variants):
        assert first.masked.selected.any()
        for other in others:
            assert torch.equal(first.masked.input_ids, other.masked.input_ids)
            assert torch.equal(first.masked.selected, other.masked.selected)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 9), st.floats(0.05, 0.9))
def test_masking_hides_whole_words_and_at_least_one_a_block(seed, blocks, words, mlm_probability):
    generator = torch.Generator().manual_seed(seed)
    word_lengths = torch.randint(1, 4, (blocks, words), generator=generator)
    width = int(word_lengths.sum(1).max()) + 2
    word_table = torch.zeros(blocks, width, dtype=torch.long)
    for row, lengths in enumerate(word_lengths):
        numbers = torch.repeat_interleave(torch.arange(1, words + 1), lengths)
        word_table[row, 1 : 1 + len(numbers)] = numbers
    subwords = torch.randint(10, 100, word_table.shape, generator=generator)
    batch = mask_words(subwords, word_table, MaskSettings(5, 100, mlm_probability), generator)
    assert not batch.selected[word_table == 0].any() and batch.selected.any(1).all()
    for row in range(blocks):
        for word in range(1, words + 1):
            selected = batch.selected[row][word_table[row] == word]
            assert selected.all() or not selected.any()
    assert torch.equal(batch.input_ids[~batch.selected], subwords[~batch.selected])
    assert torch.equal(batch.targets, subwords[batch.selected])


def test_15_percent_are_selected_of_which_80_percent_are_masked_and_10_percent_stay():
    generator = torch.Generator().manual_seed(0)
    words = torch.arange(1, 129).expand(200, 128)
    subwords = torch.randint(10, 1000, words.shape, generator=generator)
    batch = mask_words(subwords, words, MaskSettings(5, 1000, mlm_probability=0.15), generator)
    assert batch.selected.float().mean().item() == pytest.approx(0.15, abs=0.01)
    assert (batch.input_ids[batch.selected] == 5).float().mean().item() == pytest.approx(0.8, abs=0.03)
    assert (batch.input_ids[batch.selected] == batch.targets).float().mean().item() == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "mpnet", "deberta-v2", "modernbert"])
def test_the_loss_at_selected_positions_equals_that_of_full_logits(tiny, family):
    """Logits at the selected rows only, for each architecture's own head."""
    model, missing = load_mlm(tiny(family))
    model.eval()
    assert missing and head_parameters(model)
    subwords = torch.randint(5, model.config.vocab_size, (3, 20))
    selected = torch.rand(3, 20) < 0.3
    selected[0, 0] = True
    batch = MaskedBatch(subwords, selected, subwords[selected])
    attention_mask = torch.ones_like(subwords)
    with torch.no_grad():
        logits = model(input_ids=subwords, attention_mask=attention_mask).logits[selected]
        expected = torch.nn.functional.cross_entropy(logits, subwords[selected])
        assert masked_loss(model, batch, attention_mask).item() == pytest.approx(expected.item(), abs=1e-5)
        after = model(input_ids=subwords, attention_mask=attention_mask).logits
    assert after.shape[:2] == (3, 20)  # the hook is gone


def test_adapting_lowers_perplexity_and_leaves_a_plain_folder(tiny, tmp_path):
    """Each document repeats one word: the head alone cannot predict it, but an encoder that has learned to look around can."""
    words = ["the", "pump", "failed", "on", "climb", "out", "of", "oslo"]
    text_file = tmp_path / "domain.txt"
    text_file.write_text("\n\n".join(" ".join([words[i % 8]] * 24) for i in range(40)))
    out = tmp_path / "adapted"
    general = tmp_path / "general.txt"
    general.write_text("A king had three daughters.\n\nThe end.")
    settings_ = AdaptSettings(epochs=60, learning_rate=3e-3, **SMALL)
    report = adapt(tiny(), [str(text_file)], out, general=[str(general)], settings=settings_)
    before, after = report["perplexity_before"], report["perplexity_after"]
    assert after["in-domain"] < before["in-domain"] / 2 and set(after) == {"in-domain", "general"}
    assert report["head_steps"] > 0 and report["tokens"] > 0 and report["epochs"] == 60
    assert json.loads((out / "adapt.json").read_text())["steps"] == report["steps"]
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.mask_token and AutoModel.from_pretrained(out).config.hidden_size == 32
    model = AutoModelForMaskedLM.from_pretrained(out)
    logits = model(**tokenizer("The [MASK]", return_tensors="pt")).logits
    assert torch.isfinite(logits).all()
    for file in out.iterdir():
        assert str(tmp_path).encode() not in file.read_bytes() and not file.name.endswith(".bin")
    assert load_objective(str(out), settings_).missing == []  # the head is in the folder: it is not trained alone again


def steps_and_losses(report):
    return [(evaluation["step"], evaluation["losses"]) for evaluation in report["evaluations"]]


def test_the_encoder_is_frozen_while_only_the_head_is_trained(tiny, text_file, tmp_path, monkeypatch):
    run = Adaptation(tiny(), AdaptSettings(epochs=3, **SMALL))
    before = {name: p.clone() for name, p in run.objective.model.base_model.named_parameters()}
    is_untouched = []
    losses = Objective.losses

    def check(self, texts):
        is_untouched.append(all(torch.equal(before[name], p) for name, p in self.model.base_model.named_parameters()))
        return losses(self, texts)

    monkeypatch.setattr(Objective, "losses", check)
    run.run([text_file], tmp_path / "out")
    assert is_untouched == [True, False, False, False, False]  # at the first evaluation, then at the others


def test_the_same_run_gives_the_same_perplexities(tiny, text_file, tmp_path):
    first, second = (
        adapt(tiny(), [text_file], tmp_path / name, settings=AdaptSettings(epochs=2, **SMALL)) for name in ("first", "second")
    )
    assert steps_and_losses(first) == steps_and_losses(second) and first["perplexity_after"] == second["perplexity_after"]


def test_the_first_budget_that_is_spent_ends_the_run(tiny, text_file, tmp_path):
    report = adapt(tiny(), [text_file], tmp_path / "out", settings=AdaptSettings(epochs=50, max_steps=7, **SMALL))
    assert report["steps"] == 7
    report = adapt(tiny(), [text_file], tmp_path / "out", settings=AdaptSettings(epochs=5000, max_minutes=0.03, **SMALL))
    assert report["steps"] < 5000


def test_the_gradient_of_a_step_is_the_mean_over_the_words_of_its_forward_passes(tiny, text_file, tmp_path):
    run = Adaptation(tiny(), AdaptSettings(**SMALL))
    model = run.objective.model.eval()
    corpus = load_corpus([text_file], run.objective.tokenizer, BlockSettings(32, 0.1, 0), tmp_path / "blocks", print)
    trainer = run.trainer(corpus, None, AdaptCheckpoints(tmp_path / "none", {}, 1))
    parameters = list(model.parameters())

    def gradients():
        return [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]

    class GradientKeeper:
        def step(self):
            self.gradients = gradients()

        def zero_grad(self, set_to_none):
            model.zero_grad()

    keeper, single = GradientKeeper(), []
    counts = [len(trainer.batches[number].masked.targets) for number in (4, 5)]
    assert counts[0] != counts[1]
    for number in (4, 5):
        masked_loss(model, *trainer.batches[number]).backward()
        single.append(gradients())
        model.zero_grad()
    run.settings.gradient_accumulation_steps = 2
    trainer.step(keeper, 2, [torch.nn.Parameter(torch.zeros(1))])
    assert keeper.gradients
    for first, second, mean in zip(*single, keeper.gradients):
        assert torch.allclose((counts[0] * first + counts[1] * second) / sum(counts), mean, atol=1e-6)


def test_the_learning_rate_rises_stays_and_falls():
    settings_ = AdaptSettings(warmup_ratio=0.1, decay_ratio=0.2)
    phase = Phase("encoder", [], 1.0, steps=100, minutes=0)
    rates = [phase.learning_rate(Progress(phase_step=step), settings_) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 11) and rates[:11] == sorted(rates[:11])
    assert all(rate == pytest.approx(1.0) for rate in rates[10:80]) and rates[90] == pytest.approx(0.5) and rates[99] < 0.06
    timed = Phase("encoder", [], 1.0, steps=100, minutes=1)
    assert timed.learning_rate(Progress(phase_step=50, phase_seconds=54), settings_) == pytest.approx(0.5)
    assert timed.spent(Progress(phase_step=50, phase_seconds=61)) > 1


def test_max_tokens_ends_the_run_and_gradient_checkpointing_changes_no_result(tiny, text_file, tmp_path):
    plain, checkpointed = (
        adapt(
            tiny(),
            [text_file],
            tmp_path / name,
            settings=AdaptSettings(max_tokens=900, gradient_checkpointing=name == "checkpointed", **SMALL),
        )
        for name in ("plain", "checkpointed")
    )
    assert plain["steps"] == 8 and plain["tokens"] == 1024  # the fewest steps of 4 * 32 tokens that hold so many
    assert checkpointed["perplexity_after"]["in-domain"] == pytest.approx(plain["perplexity_after"]["in-domain"], rel=1e-4)


RUN = """
import pathlib, sys
from mtl.adaptation.checkpoint import AdaptCheckpoints
from mtl.adaptation.run import adapt
from mtl.adaptation.settings import AdaptSettings
save = AdaptCheckpoints.save
def save_and_tell(self, model, optimizer, progress):
    save(self, model, optimizer, progress)
    print("saved", progress.step, flush=True)
AdaptCheckpoints.save = save_and_tell
settings = AdaptSettings(epochs=4, learning_rate=3e-3, checkpoint_minutes=1e-9, block_size=32, batch_size=4, device="cpu",
                         precision="fp32", validation_split=0.1)
adapt(sys.argv[1], [sys.argv[2]], pathlib.Path(sys.argv[3]), settings=settings)
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", [3, 17])  # while only the head is trained; while the encoder is
def test_a_killed_run_resumes_to_the_same_weights(tiny, text_file, tmp_path, after):
    """SIGKILL after that many checkpoints, wherever it strikes. Dropout, order and masks are those of an undisturbed run."""
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
    assert "resuming from" in done.stdout
    reports = [json.loads((tmp_path / name / "out" / "adapt.json").read_text()) for name in "ab"]
    for key in ("steps", "head_steps", "tokens", "perplexity_before", "perplexity_after"):
        assert reports[0][key] == reports[1][key]
    weights = [(tmp_path / name / "out" / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    assert not (tmp_path / "b" / "out.checkpoints").exists()


def test_general_text_is_replayed_at_its_ratio(tiny, tmp_path):
    tokenizer = load_tokenizer(tiny())
    (tmp_path / "other").mkdir()
    domain, _ = corpus_of(TEXTS * 20, tokenizer, tmp_path)
    general, _ = corpus_of(["a king had three daughters " * 8] * 4, tokenizer, tmp_path / "other")
    masks = MaskSettings(tokenizer.mask_token_id, len(tokenizer), mask_fraction=0.0, random_fraction=0.0)

    def make_batches():
        return TrainingBatches(domain.train, 7, masks, tokenizer.pad_token_id, 1, general.train, 0.3)

    batches = make_batches()
    domain_rows = {tuple(row["subwords"].tolist()) for row in domain.train}
    number = 4 * len(domain.train) // 7
    rows = [tuple(row) for i in range(number) for row in batches[i].masked.input_ids.tolist()]
    replayed = [row for row in rows if row not in domain_rows]
    assert len(replayed) / len(rows) == pytest.approx(0.3, abs=0.02)
    assert batches.blocks_before(number) == len(rows) == 7 * number + len(replayed)
    assert batches.domain_blocks_before(number) == 7 * number
    assert set(replayed) == {tuple(row["subwords"].tolist()) for row in general.train}
    again, before = make_batches()[9].masked, batches[9].masked
    assert torch.equal(again.selected, before.selected) and torch.equal(again.input_ids, before.input_ids)


def monitored(tmp_path, evaluations, num_evaluations, max_forgetting):
    """A model, its progress and a monitor, after evaluations with these results; the weights are the number of the evaluation."""
    model, progress, results = torch.nn.Linear(1, 1, bias=False), Progress(), iter(evaluations)
    monitor = Monitor(lambda: next(results), AdaptCheckpoints(tmp_path / "run", {}, 1), num_evaluations, max_forgetting)
    for step in range(len(evaluations)):
        torch.nn.init.constant_(model.weight, step)
        progress.step = step
        monitor.evaluate(model, progress)
        yield model, progress, monitor


def losses_of(domain, general):
    return {"losses": {"in-domain": domain, "general": general}}


def test_the_best_weights_within_the_limit_of_forgetting_are_restored(tmp_path):
    """The third evaluation has the lowest loss but has forgotten too much; so the second is the best."""
    evaluations = [losses_of(*losses) for losses in [(5.0, 2.0), (4.0, 2.1), (3.0, 2.6), (4.5, 2.2)]]
    has_forgotten = []
    for state in monitored(tmp_path, evaluations, num_evaluations=2, max_forgetting=0.5):
        model, progress, monitor = state
        has_forgotten.append(monitor.forgot(progress))
    assert has_forgotten == [False, False, True, False] and not monitor.diverged(progress)
    assert monitor.best(progress)["step"] == 1
    monitor.restore(model, progress)
    assert model.weight.item() == 1.0
    first, second = Progress(evaluations=[{}]), Progress(evaluations=[{}, {}])
    assert not monitor.due(0.49, first) and monitor.due(0.5, first)
    assert not monitor.due(0.99, second) and monitor.due(1.0, second)


@pytest.mark.parametrize("losses", [(math.nan, 2.0), (5.0, math.nan), (math.inf, 2.0), (math.nan, math.nan)])
def test_a_loss_that_is_not_a_number_is_divergence(tmp_path, losses):
    ((_, progress, monitor),) = monitored(tmp_path, [losses_of(*losses)], num_evaluations=2, max_forgetting=0.5)
    assert monitor.diverged(progress)


def test_a_run_that_forgets_stops_and_saves_weights_within_the_limit(tiny, text_file, tmp_path):
    general = tmp_path / "general.txt"
    general.write_text("\n\n".join(f"A king had {word} daughters." for word in ("two", "three", "four", "five", "six") * 8))
    settings_ = AdaptSettings(
        **SMALL, epochs=40, learning_rate=5e-3, num_evaluations=8, replay_ratio=0.0, max_forgetting=0.05
    )  # fmt: skip
    messages = []
    run = Adaptation(tiny(), settings_, messages.append)
    report = run.run([text_file], tmp_path / "out", general=[str(general)])
    losses = [evaluation["losses"]["general"] for evaluation in report["evaluations"]]
    assert losses[-1] > losses[0] + 0.05 and all(loss <= losses[0] + 0.05 for loss in losses[:-1])
    assert len(losses) < 9 and "more than max-forgetting = 0.05" in report["stopped"]
    assert any(line.startswith("stopped: ") for line in messages)
    assert math.log(report["perplexity_after"]["general"]) <= losses[0] + 0.05
    saved = saved_losses(tmp_path, settings_, text_file, [str(general)])
    assert saved["in-domain"] == pytest.approx(math.log(report["perplexity_after"]["in-domain"]), abs=1e-4)
    with pytest.raises(UserError, match="max-forgetting is measured on general text"):
        run.run([text_file], tmp_path / "out")


def saved_losses(tmp_path, settings_, text_file, general=()):
    """The losses of the model saved in `out`."""
    run = Adaptation(str(tmp_path / "out"), settings_)
    corpora = run.read([text_file], general, tmp_path / "blocks")
    return run.trainer(*corpora, AdaptCheckpoints(tmp_path / "none", {}, 1)).monitor.measure()["losses"]


def test_each_layer_has_its_own_learning_rate(tiny):
    settings_ = AdaptSettings(layer_lr_decay=0.5, **SMALL)
    model = load_objective(tiny(), settings_).model
    optimizer = make_optimizer(model, Phase("encoder", list(model.parameters()), 1.0, 10, 0), settings_)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    multipliers = {names[id(p)]: group["lr_multiplier"] for group in optimizer.param_groups for p in group["params"]}
    assert len(multipliers) == len(names)
    layers = model.config.num_hidden_layers
    assert multipliers["bert.embeddings.word_embeddings.weight"] == 0.5 ** (layers + 1)
    assert multipliers[f"bert.encoder.layer.{layers - 1}.output.dense.weight"] == 0.5
    assert multipliers["cls.predictions.transform.dense.weight"] == 1.0
    decays = {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays["bert.encoder.layer.0.output.dense.weight"] == settings_.weight_decay
    assert decays["bert.encoder.layer.0.output.dense.bias"] == decays["bert.embeddings.LayerNorm.weight"] == 0.0


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_the_weighted_losses_of_all_ranks_average_to_that_of_the_batch(tiny, world_size):
    model, _ = load_mlm(tiny())
    model.eval()
    subwords = torch.randint(5, model.config.vocab_size, (4, 20))
    selected = torch.rand(4, 20) < 0.3
    selected[:, 0] = True
    batch = BlockBatch(MaskedBatch(subwords, selected, subwords[selected]), torch.ones_like(subwords))
    shards = [shard_of(batch, rank, world_size) for rank in range(world_size)]
    with torch.no_grad():
        losses = [weight * masked_loss(model, *shard).item() for shard, weight in shards]
        assert sum(losses) / world_size == pytest.approx(masked_loss(model, *batch).item(), rel=1e-5)
    assert sum(len(shard.masked.input_ids) for shard, weight in shards if weight) == 4


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path):
    """The same global batch, without dropout: the same weights to float tolerance, one folder, messages from one process."""
    encoder = save_tiny("bert", tmp_path / "encoder", hidden_dropout_prob=0.0)
    text_file = tmp_path / "domain.txt"
    text_file.write_text("\n\n".join(" ".join([word] * 24) for word in ("pump", "failed", "climb", "oslo") * 10))
    options = [
        "--epochs", "8", "--no-clean", "--block-size", "32", "--batch-size", "5", "--device", "cpu", "--precision", "fp32",
        "--validation-split", "0.1", "--learning-rate", "0.003", "--gradient-accumulation-steps", "2",
    ]  # fmt: skip
    output = {}
    for name, launcher in (("one", [sys.executable, "-m"]), ("two", torchrun())):
        command = [*launcher, "mtl", "adapt", encoder, str(text_file), *options, "--out", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stderr[-3000:]
        output[name] = done.stdout
    reports = [json.loads((tmp_path / name / "adapt.json").read_text()) for name in output]
    assert reports[0]["steps"] == reports[1]["steps"] and reports[0]["tokens"] == reports[1]["tokens"]
    for key in ("perplexity_before", "perplexity_after"):
        assert reports[1][key]["in-domain"] == pytest.approx(reports[0][key]["in-domain"], rel=1e-4)
    weights = [load_file(tmp_path / name / "model.safetensors") for name in output]
    untrained = load_mlm(encoder)[0].state_dict()
    for key, weight in weights[0].items():
        assert torch.allclose(weight, weights[1][key], atol=1e-4), key
    key = "bert.encoder.layer.0.output.dense.weight"
    assert (weights[0][key] - untrained[key]).abs().max() > 1e-3
    assert output["two"].count("perplexity, in-domain") == output["two"].count("tokens in") == 1


def adapt_until(step, encoder, text_file, out, monkeypatch):
    """A run that Ctrl-C ends in that step."""
    trainer_step = Trainer.step

    def interrupt(self, optimizer, number, *arguments):
        if number == step - 1:
            raise KeyboardInterrupt
        return trainer_step(self, optimizer, number, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "step", interrupt)
        return adapt(encoder, [text_file], out, settings=AdaptSettings(epochs=4, **SMALL))


@pytest.fixture
def interrupted(tiny, text_file, tmp_path, monkeypatch):
    """The folder of a run ended by Ctrl-C while the encoder trains, with its checkpoint."""
    adapt_until(30, tiny(), text_file, tmp_path / "out", monkeypatch)
    return tmp_path / "out"


def test_ctrl_c_saves_what_was_learned(interrupted):
    report = json.loads((interrupted / "adapt.json").read_text())
    assert report["interrupted"] and report["steps"] == 29 and math.isfinite(report["perplexity_after"]["in-domain"])
    assert AutoModel.from_pretrained(interrupted)


def test_ctrl_c_while_only_the_head_is_trained_saves_it(tiny, text_file, tmp_path, monkeypatch):
    report = adapt_until(9, tiny(), text_file, tmp_path / "out", monkeypatch)
    assert report["interrupted"] and report["steps"] == 8 and math.isfinite(report["perplexity_after"]["in-domain"])
    assert AutoModel.from_pretrained(tmp_path / "out")


def test_after_ctrl_c_the_same_call_resumes_even_with_another_budget(tiny, text_file, interrupted):
    report = adapt(tiny(), [text_file], interrupted, settings=AdaptSettings(epochs=5, **SMALL))
    assert report["steps"] == 63 and not report["interrupted"] and not interrupted.with_name("out.checkpoints").exists()


def test_a_checkpoint_of_another_run_is_refused(tiny, text_file, interrupted):
    with pytest.raises(UserError, match=r"step-00000029: .*learning_rate was 0.0072, is now 0.5.* --no-resume"):
        adapt(tiny(), [text_file], interrupted, settings=AdaptSettings(epochs=4, learning_rate=0.5, **SMALL))
    with pytest.raises(UserError, match=r"model was .*BertForMaskedLM"):
        adapt(tiny("roberta"), [text_file], interrupted, settings=AdaptSettings(epochs=4, **SMALL))
    report = adapt(
        tiny(), [text_file], interrupted, settings=AdaptSettings(max_steps=5, learning_rate=0.01, **SMALL), resume=False
    )
    assert report["steps"] == 5


def test_a_damaged_checkpoint_is_named(tiny, text_file, interrupted):
    file = interrupted.with_name("out.checkpoints") / "step-00000029" / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=r"step-00000029/optimizer.safetensors: the checkpoint is damaged"):
        adapt(tiny(), [text_file], interrupted, settings=AdaptSettings(epochs=4, **SMALL))


def test_a_disk_that_fills_during_tokenization_leaves_no_shards(tiny, tmp_path, monkeypatch):
    """datasets wraps the writer's error in one of its own."""
    from datasets.arrow_writer import ArrowWriter

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ArrowWriter, "write", full)
    with pytest.raises(UserError, match=r"not enough disk space to write .*cache"):
        corpus_of(TEXTS * 10, load_tokenizer(tiny()), tmp_path)
    assert not list((tmp_path / "cache").glob("*"))


def test_the_newest_checkpoints_are_kept(tmp_path):
    model = torch.nn.Linear(2, 1)
    optimizer, checkpoints = torch.optim.AdamW(model.parameters()), AdaptCheckpoints(tmp_path / "c", {}, 2)
    for step in (5, 10, 15):
        checkpoints.save(model, optimizer, Progress(step=step))
    assert [path.name for path in checkpoints.all()] == ["step-00000010", "step-00000015"]
    assert checkpoints.newest() == tmp_path / "c" / "step-00000015"


def test_a_failed_save_keeps_the_old_folder(tiny, text_file, tmp_path, monkeypatch):
    out = tmp_path / "out"
    adapt(tiny(), [text_file], out, settings=AdaptSettings(max_steps=2, **SMALL))
    before = (out / "model.safetensors").read_bytes()
    run = Adaptation(tiny(), AdaptSettings(max_steps=2, **SMALL))

    def full(folder, **_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run.objective.model, "save_pretrained", full)
    with pytest.raises(UserError, match="not enough disk space"):
        run.run([text_file], out)
    assert (out / "model.safetensors").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


@pytest.mark.parametrize(
    "changes, parts",
    [
        ({"block_size": 100}, ["block-size = 100", "64"]),
        ({"precision": "fp16"}, ["precision", "'bf16'"]),
        ({"objective": "words"}, ["objective = 'words'", "'mlm', 'span_mlm', 'rtd', 'clm'"]),
        ({"mlm_probability": 2.0}, ["mlm-probability = 2.0"]),
        ({"validation_split": 0.0}, ["validation-split = 0.0"]),
        ({"max_minutes": -1}, ["max-minutes = -1"]),
        ({"max_steps": -3}, ["max-steps = -3"]),
        ({"learning_rate": -1.0}, ["learning-rate = -1.0"]),
    ],
)
def test_a_setting_out_of_range_is_named_with_what_is_allowed(tiny, changes, parts):
    with pytest.raises(UserError) as error:
        load_objective(tiny(), AdaptSettings(**{**SMALL, **changes}))
    assert all(part in str(error.value) for part in parts)


def test_a_run_that_diverges_saves_nothing(tiny, text_file, tmp_path):
    with pytest.raises(UserError, match=r"learning-rate = 10000.* too high"):
        adapt(tiny(), [text_file], tmp_path / "out", settings=AdaptSettings(max_steps=20, learning_rate=1e4, **SMALL))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["blocks", "domain.txt"]


def test_a_folder_with_other_files_is_not_overwritten(tiny, text_file, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    with pytest.raises(UserError, match=r"mine.*adapt.json"):
        adapt(tiny(), [text_file], tmp_path / "mine", settings=AdaptSettings(max_steps=1, **SMALL))
    assert [entry.name for entry in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["domain.txt", "mine"]


def test_a_decoder_learns_the_next_subword(tiny, tmp_path):
    (tmp_path / "domain.txt").write_text("\n\n".join(["one two three four five six seven eight"] * 60))
    settings_ = AdaptSettings(epochs=30, learning_rate=3e-3, **SMALL)
    report = adapt(tiny("gpt2"), [str(tmp_path / "domain.txt")], tmp_path / "out", settings=settings_)
    assert report["objective"] == "clm" and report["head_steps"] == 0
    assert report["perplexity_after"]["in-domain"] < report["perplexity_before"]["in-domain"] / 3
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path / "out"), AutoTokenizer.from_pretrained(tmp_path / "out")
    prompt = tokenizer("one two three four", return_tensors="pt")
    expected = tokenizer("one two three four five")["input_ids"][prompt["input_ids"].shape[1]]
    assert model(**prompt).logits[0, -1].argmax().item() == expected


def test_an_objective_that_does_not_fit_the_encoder_is_refused(tiny):
    with pytest.raises(UserError, match="no mask token, which objective = 'mlm' needs; for a decoder set objective = \"clm\""):
        load_objective(tiny("gpt2"), AdaptSettings(objective="mlm", **SMALL))
    with pytest.raises(UserError, match=r'objective = "clm" is for decoders, and encoder .* is a bert'):
        load_objective(tiny(), AdaptSettings(objective="clm", **SMALL))


def test_the_next_subword_is_predicted_if_it_belongs_to_a_word():
    subwords = torch.tensor([[1, 10, 11, 12, 2, 13, 2, 0]])
    words = torch.tensor([[0, 1, 1, 2, 0, 3, 0, 0]])
    batch = select_next_subwords(subwords, words, MaskSettings(-1, 20), torch.Generator())
    assert batch.selected[0].tolist() == [True, True, True, False, True, False, False, False]
    assert batch.targets.tolist() == [10, 11, 12, 13] and torch.equal(batch.input_ids, subwords)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 60), st.floats(0.05, 0.9))
def test_masked_spans_are_whole_words_at_the_given_rate(seed, blocks, words, mlm_probability):
    generator = torch.Generator().manual_seed(seed)
    word_table = torch.repeat_interleave(torch.arange(1, words + 1), 2).expand(blocks, -1)
    subwords = torch.randint(10, 100, word_table.shape, generator=generator)
    batch = mask_spans(subwords, word_table, MaskSettings(5, 100, mlm_probability, "span_mlm"), generator)
    selected = batch.selected.view(blocks, words, 2)
    assert torch.equal(selected[..., 0], selected[..., 1])
    assert (selected[..., 0].sum(1) == max(1, round(mlm_probability * words))).all()
    assert torch.equal(batch.input_ids[~batch.selected], subwords[~batch.selected])
    assert torch.equal(batch.targets, subwords[batch.selected])


def test_spans_are_longer_than_words_and_hidden_as_one():
    generator = torch.Generator().manual_seed(0)
    words = torch.arange(1, 513).expand(60, 512)
    subwords = torch.randint(10, 1000, words.shape, generator=generator)
    batch = mask_spans(subwords, words, MaskSettings(5, 1000, 0.15, "span_mlm"), generator)
    starts = (batch.selected & ~batch.selected.roll(1, 1)).sum().item()
    assert 3 < batch.selected.sum().item() / starts < 5.5  # a mean of 3.8, and some that touch
    assert (batch.input_ids[batch.selected] == 5).float().mean().item() == pytest.approx(0.8, abs=0.05)
    in_row = batch.selected[:, 1:] & batch.selected[:, :-1]
    is_alike = (batch.input_ids[:, 1:][in_row] == 5) == (batch.input_ids[:, :-1][in_row] == 5)
    assert is_alike.float().mean() > 0.9


def test_a_run_can_mask_spans(tiny, text_file, tmp_path, monkeypatch):
    objectives = []
    mask = Objective.loss

    def record(self, batch, forward=None):
        objectives.append(self.masks.objective)
        return mask(self, batch, forward)

    monkeypatch.setattr(Objective, "loss", record)
    report = adapt(tiny(), [text_file], tmp_path / "spans", settings=AdaptSettings(objective="span_mlm", **SMALL))
    assert report["objective"] == "span_mlm" and report["steps"] > 1 and len(report["evaluations"]) == 5
    assert set(objectives) == {"span_mlm"}
    words = adapt(tiny(), [text_file], tmp_path / "words", settings=AdaptSettings(max_steps=1, **SMALL))
    assert words["objective"] == "mlm"


def test_lora_trains_few_weights_and_is_merged(tiny, text_file, tmp_path):
    pytest.importorskip("peft", reason="needs it: pip install spacy-mtl[lora]")
    settings_ = AdaptSettings(epochs=12, lora_rank=2, learning_rate=1e-2, **SMALL)
    run = Adaptation(tiny(), settings_)
    parameters = dict(run.objective.model.base_model.named_parameters())
    before = {name: p.detach().clone() for name, p in parameters.items() if "lora_" not in name}
    *_, phase = remaining_phases(run.objective, settings_, Progress(), 10)
    trained = {id(parameter) for parameter in phase.parameters}
    updates = {name for name in parameters if "lora_" in name}
    assert updates and {name for name, p in parameters.items() if id(p) in trained} == updates
    report = run.run([text_file], tmp_path / "out")
    assert report["perplexity_after"]["in-domain"] < report["perplexity_before"]["in-domain"]
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert not any("lora" in name or "base_layer" in name for name in stored)
    changed = {name for name, p in before.items() if not torch.equal(stored["bert." + name.replace(".base_layer", "")], p)}
    assert changed and all(name.endswith("base_layer.weight") for name in changed)
    saved = saved_losses(tmp_path, AdaptSettings(**SMALL), text_file)
    assert saved["in-domain"] == pytest.approx(math.log(report["perplexity_after"]["in-domain"]), abs=1e-3)


def test_too_few_minutes_for_a_step_are_refused(tiny, text_file, tmp_path):
    with pytest.raises(UserError, match=r"max-minutes = 1e-06: one step takes .* s planned for the head. Give more minutes"):
        adapt(tiny(), [text_file], tmp_path / "out", settings=AdaptSettings(max_minutes=1e-6, **SMALL))
    assert not (tmp_path / "out").exists()


def test_a_packaged_encoder_with_other_weights_is_refused(tmp_path, monkeypatch):
    import importlib.util
    from types import SimpleNamespace

    import mtl.encoder.pretrained.sources as sources

    save_tiny("bert", tmp_path / "model")
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(UserError, match="not the published ones"):
        sources.resolve_encoder("sentence-transformers/all-MiniLM-L6-v2")
