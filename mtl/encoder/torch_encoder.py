"""The shared transformer: texts with token positions in, one vector a token out. Pure torch, no spaCy."""

import inspect
import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from mtl.encoder.gpu import planless_attention, upload
from mtl.encoder.limits import check_memory, depth_of, good_batch, layer_count, pick_device, real_length
from mtl.encoder.masking import MaskSettings, mask
from mtl.encoder.precision import BACKENDS, PRECISIONS, Serving, training_in, usable
from mtl.encoder.windows import MIN_CAPACITY, Template, capacity, surrounded, window_of_pairs, window_starts
from mtl.encoder.wordpieces import CachedTokenizer, Tokens, Wordpieces, align, ranges
from mtl.encoder.workers import side_by_side, workers
from mtl.errors import UserError, check_choice, check_range
from mtl.stages import stage

# Given a mask of (batch, length), these make one of (batch, 1, length, length) of it, which costs a small encoder more than a
# layer does; one of (batch, 1, length) they only broadcast.
BROADCASTS_MASK = ("bert", "camembert", "roberta", "xlm-roberta", "xlm-roberta-xl")


@dataclass(frozen=True)
class EncoderSettings:
    """window: wordpieces a window, specials and prompt included; 0 is the model's real length, at most 512.
    overlap: wordpieces that neighbouring windows share, at most half a window. batch_pieces: padded wordpieces in one forward
    pass; 0 is what suits the device and the encoder's width. precision: "fp32", "bf16", "fp16" (GPU) or "int8" (CPU, predictions
    only). backend: "torch", "openvino" (CPU) or "auto": see `usable`. fallback: take fp32 in torch, with a warning,
    where the device lacks one of these; else fail. device: "auto", or torch's name. frozen_layers: how many of the lowest layers,
    with the embeddings, are not trained.
    """

    window: int = 0
    overlap: int = 128
    batch_pieces: int = 0
    precision: str = "fp32"
    device: str = "auto"
    frozen_layers: int = 0
    fallback: bool = True
    backend: str = "auto"

    def check(self) -> None:
        """RAISES (UserError): a setting is out of range; it is named with what is allowed."""
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("backend", self.backend, ("auto", *BACKENDS))
        check_range("window", self.window, 0)
        check_range("overlap", self.overlap, 0)
        check_range("batch_pieces", self.batch_pieces, 0)
        check_range("frozen_layers", self.frozen_layers, 0)


@dataclass
class TokenVectors:
    """The encoder's output for several items (a document, alone or behind a prompt), one after another.

    vectors: (tokens of all items, width), the mean of each token's wordpieces, 0 where it has none.
    summaries: (items, width), the mean over the item's windows of the vector at [CLS].
    lengths: (items,), tokens of each. aligned: (tokens of all items,), bool, whether the token has wordpieces.
    """

    vectors: Tensor
    summaries: Tensor
    lengths: np.ndarray
    aligned: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """(items,), the row of `vectors` where each item starts."""
        return np.cumsum(self.lengths) - self.lengths

    def select(self, items: Sequence[int]) -> "TokenVectors":
        """The given items in the given order; no copy where that is all of them as they stand."""
        if len(items) == len(self.lengths) and all(i == j for i, j in enumerate(items)):
            return self
        starts, lengths = self.starts[list(items)], self.lengths[list(items)]
        rows = ranges(starts, lengths)
        index = torch.from_numpy(rows).to(self.vectors.device)
        chosen = torch.tensor(list(items), dtype=torch.long, device=self.vectors.device)
        return TokenVectors(self.vectors[index], self.summaries[chosen], lengths, self.aligned[rows])

    @classmethod
    def concatenate(cls, parts: Sequence["TokenVectors"]) -> "TokenVectors":
        """RAISES (RuntimeError): no parts."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            torch.cat([part.vectors for part in parts]),
            torch.cat([part.summaries for part in parts]),
            np.concatenate([part.lengths for part in parts]),
            np.concatenate([part.aligned for part in parts]),
        )


@dataclass
class _Cut:
    """Items cut into wordpieces, and which of those each of their tokens has. token, piece: (pairs,), item after item."""

    pieces: Wordpieces  # of the distinct texts
    text: np.ndarray  # (items,), which of those
    token: np.ndarray  # counted from the item's own start
    piece: np.ndarray  # counted from the item's own start
    counts: np.ndarray  # (items,), pairs of each


@dataclass
class _Windows:
    """Windows of several items, and where in them each token's vector is read."""

    ids: np.ndarray  # (wordpieces of all windows,), one window after another
    sizes: np.ndarray  # (windows,), wordpieces of each
    types: np.ndarray  # (windows,), how many of its first wordpieces are the prompt's segment
    item: np.ndarray  # (windows,)
    pairs: np.ndarray  # (pairs, 3): token counted over all items, window, position in it

    def rows(self, chosen: np.ndarray) -> np.ndarray:
        """Where in `ids` the wordpieces of some windows are."""
        return ranges((np.cumsum(self.sizes) - self.sizes)[chosen], self.sizes[chosen])

    def mask(self, chosen: np.ndarray, longest: int) -> np.ndarray:
        """(chosen, longest) bool, where a padded batch of windows has wordpieces."""
        return np.arange(longest) < self.sizes[chosen][:, None]


class Encoder(nn.Module):
    """Any `AutoModel` with a fast tokenizer, in windows, at token level.

    It stays in `eval()` except inside `encode(train=True)`, and nothing in a prediction changes it, so threads may share it.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, settings: EncoderSettings) -> None:
        super().__init__()
        settings.check()
        if getattr(model, "pooler", None) is not None:
            model.pooler = None  # nothing reads it
        self.model = model
        self.tokenizer = tokenizer
        self._tokenize = CachedTokenizer(tokenizer.backend_tokenizer)
        self.template = Template.from_tokenizer(tokenizer)
        self.settings = settings
        longest = real_length(model, model.config)
        self.window = settings.window or min(longest, 512)
        if self.window > longest:
            raise UserError(f"window = {self.window} is more than the {longest} wordpieces that the encoder takes")
        least = self.template.specials(False) + MIN_CAPACITY
        if self.window < least:
            raise UserError(f"window = {self.window} is too short: {least} wordpieces are the least")
        if settings.window and settings.overlap > self.window // 2:
            raise UserError(
                f"overlap = {settings.overlap} is too much for window = {self.window}; allowed: 0 to {self.window // 2}"
            )
        self.overlap = min(settings.overlap, self.window // 2)
        self.passes = 0  # items encoded so far, for tests and profiles
        self._accepts_types = (
            "token_type_ids" in inspect.signature(model.forward).parameters and getattr(model.config, "type_vocab_size", 0) > 1
        )
        own = getattr(model.config, "_attn_implementation", None)
        self._broadcasts_mask = own == "sdpa" and model.config.model_type in BROADCASTS_MASK
        self._freeze(settings.frozen_layers)
        self.to(pick_device(settings.device))
        self.batch_pieces = settings.batch_pieces or good_batch(model, self.device)
        precision, backend = usable(settings.precision, settings.backend, self.device, settings.fallback)
        inputs = ("input_ids", "attention_mask", "token_type_ids")[: 3 if self._accepts_types else 2]
        self.serving = Serving(precision, backend, inputs, settings.fallback)
        self._trains_in = "bf16" if self.serving.precision == "bf16" else "fp32"
        self.eval()

    @property
    def width(self) -> int:
        """The size of a token's vector."""
        return int(self.model.config.hidden_size)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def describe(self) -> Dict[str, Any]:
        """What a report says of it: precision, device, window, width, layers, parameters."""
        count = sum(parameter.numel() for parameter in self.model.parameters())
        return {
            "precision": self.serving.precision, "backend": self.serving.backend, "device": str(self.device),
            "window": self.window, "width": self.width, "layers": self.layers, "parameters": count,
            "batch_pieces": self.batch_pieces,
        }  # fmt: skip

    @property
    def layers(self) -> int:
        """How many layers the transformer has, by its parameters' names."""
        return layer_count(self.model)

    def _freeze(self, count: int) -> None:
        if count > self.layers:
            raise UserError(f"frozen_layers = {count} is more than the encoder's {self.layers} layers")
        frozen = [p for name, p in self.model.named_parameters() if self.depth(name) <= count] if count else []
        for parameter in frozen:
            parameter.requires_grad_(False)

    def depth(self, parameter: str) -> int:
        """See `depth_of`."""
        return depth_of(parameter, self.layers)

    def encode(self, docs: Sequence[Tokens], prompts: Optional[Sequence[str]] = None, *, train: bool = False) -> TokenVectors:
        """One item a document; with `prompts`, one of the same number, each is encoded as `[CLS] prompt [SEP] window [SEP]`.

        train: with dropout and with gradients; else neither, whatever mode torch is in.
        RAISES (UserError): a prompt that leaves no room in the window; more tokens than the memory has room for.
        """
        lengths = np.array([len(doc.starts) for doc in docs], dtype=np.int64)
        if self.device.type == "cpu":
            check_memory(int(lengths.sum()), self.width)
        with stage("align"):
            windows, aligned = self._windows(docs, prompts)
        self.passes += len(docs)
        if not train:
            with stage("encode"), torch.inference_mode():
                count = workers(self.device)
                count = count if len(windows.sizes) >= count else 1  # few windows on many cores: each is for all of them
                vectors, summaries = self._read(self.serving.model(self.model, count), windows, lengths, count)
            return TokenVectors(vectors, summaries, lengths, aligned)
        self.train()
        try:
            with training_in(self._trains_in, self.device):
                vectors, summaries = self._read(self.model, windows, lengths, 0)
        finally:
            self.eval()
        return TokenVectors(vectors, summaries, lengths, aligned)

    def encode_masked(self, docs: Sequence[Tokens], settings: MaskSettings) -> Tuple[Tensor, Tensor]:
        """Hide some tokens, and encode what is left, with dropout and with gradients.

        RETURNS: the vectors of the hidden wordpieces (hidden, width), and what they were (hidden,). A token is hidden in the
        window that its vector is read from; chance is torch's own.
        """
        windows, _ = self._windows(docs, None)
        words = _words_in_windows(windows.pairs, windows.sizes)
        vectors, targets = [], []
        self.train()
        try:
            with training_in(self._trains_in, self.device):
                for batch in self._batches(windows.sizes):
                    longest, rows = int(windows.sizes[batch[-1]]), windows.rows(batch)
                    there = windows.mask(batch, longest)
                    pieces, own = np.zeros((2, *there.shape), dtype=np.int64)
                    pieces[there], own[there] = windows.ids[rows], words[rows]
                    hidden = mask(torch.from_numpy(pieces), torch.from_numpy(own), settings, torch.default_generator)
                    windows.ids[rows] = hidden.pieces.numpy()[there]
                    read = self._forward(self.model, windows, batch, longest)
                    vectors.append(read[hidden.chosen.flatten().to(self.device)])
                    targets.append(hidden.targets.to(self.device))
        finally:
            self.eval()
        return torch.cat(vectors), torch.cat(targets)

    def _windows(self, docs: Sequence[Tokens], prompts: Optional[Sequence[str]]) -> Tuple[_Windows, np.ndarray]:
        cut = self._cut(docs)
        first_piece = (np.cumsum(cut.pieces.counts) - cut.pieces.counts)[cut.text]
        token, piece, counts = cut.token, cut.piece, cut.counts
        window, position = np.zeros_like(piece), piece.copy()
        stops = np.cumsum(counts)
        firsts: List[np.ndarray] = []  # of each item, the first wordpiece of its windows
        bodies: List[np.ndarray] = []  # and how many there are of its text
        number = 0
        asked = self._prompts(prompts) if prompts is not None else [[]] * len(docs)
        ends = [self.template.ends(prompt) for prompt in asked]
        for item, count in enumerate(cut.pieces.counts[cut.text].tolist()):
            prompt, own = asked[item], slice(stops[item] - counts[item], stops[item])
            size = capacity(self.window, self.template.specials(bool(prompt)), len(prompt), prompts[item] if prompts else "")
            starts = window_starts(count, size, self.overlap)
            window[own] = number
            position[own] += len(ends[item][0])
            if len(starts) > 1:
                chosen = window_of_pairs(token[own], piece[own], starts, size, count)
                window[own] += chosen
                position[own] -= starts[chosen]
            firsts.append(starts + first_piece[item])
            bodies.append(np.minimum(count - starts, size))
            number += len(starts)
        of_item = np.repeat(np.arange(len(docs)), [len(each) for each in firsts])
        first, body = (np.concatenate(arrays) if arrays else np.zeros(0, np.int64) for arrays in (firsts, bodies))
        ids, sizes = surrounded(cut.pieces.ids, first, body, ends, of_item)
        types = np.array([len(before) if prompt else 0 for prompt, (before, _) in zip(asked, ends)], dtype=np.int64)[of_item]
        lengths = np.array([len(doc.starts) for doc in docs], dtype=np.int64)
        token = token + np.repeat(np.cumsum(lengths) - lengths, counts)
        aligned = np.zeros(lengths.sum(), dtype=bool)
        aligned[token] = True
        return _Windows(ids, sizes, types, of_item, np.stack([token, window, position], 1)), aligned

    def _cut(self, docs: Sequence[Tokens]) -> _Cut:
        """A text met with several prompts is cut into wordpieces once."""
        distinct = {id(doc): doc for doc in docs}
        place = {key: i for i, key in enumerate(distinct)}
        text = np.array([place[id(doc)] for doc in docs], dtype=np.int64)
        unique = list(distinct.values())
        with stage("tokenise"):
            pieces = self._tokenize([doc.text for doc in unique])
        of_token, of_piece = align(unique, pieces)
        lengths = np.array([len(doc.starts) for doc in unique], dtype=np.int64)
        first_token = np.cumsum(lengths) - lengths
        first_piece = np.cumsum(pieces.counts) - pieces.counts
        bounds: np.ndarray = np.searchsorted(of_token, np.append(first_token, lengths.sum()))  # type: ignore[assignment]
        counts = np.diff(bounds)[text]
        rows = ranges(bounds[:-1][text], counts)
        token = of_token[rows] - np.repeat(first_token[text], counts)
        piece = of_piece[rows] - np.repeat(first_piece[text], counts)
        return _Cut(pieces, text, token, piece, counts)

    def _prompts(self, prompts: Sequence[str]) -> List[List[int]]:
        encodings = self.tokenizer.backend_tokenizer.encode_batch(list(prompts), add_special_tokens=False)
        for prompt, encoding in zip(prompts, encodings):
            if not encoding.ids:
                raise UserError(f"the question {prompt!r} is empty for the tokenizer")
        return [encoding.ids for encoding in encodings]

    def _read(self, model: Callable, windows: _Windows, lengths: np.ndarray, count: int) -> Tuple[Tensor, Tensor]:
        """Run the windows through the model, and read each token's vector and each item's summary off them, batch by batch.

        count: batches that run side by side; 0 in training.
        """
        vectors = torch.zeros(int(lengths.sum()), self.width, device=self.device)
        summaries = torch.zeros(len(lengths), self.width, device=self.device)
        sizes, item = windows.sizes, windows.item
        token, window, position = windows.pairs.T
        token_share, item_share = _shares(token), _shares(item)
        padded = np.minimum(_few_lengths(sizes, self.device), self.window) if count else sizes
        batches = list(self._batches(padded, count))
        batch_of = np.empty_like(sizes)
        for i, batch in enumerate(batches):
            batch_of[batch] = i
        order = np.argsort(batch_of[window], kind="stable")
        bounds = np.searchsorted(batch_of[window[order]], np.arange(len(batches) + 1))
        start = np.empty_like(sizes)  # the row where each window starts in its batch
        for batch in batches:
            start[batch] = np.arange(len(batch)) * padded[batch[-1]]

        def run(i: int) -> Tuple[_Sums, _Sums]:
            batch, own = batches[i], order[bounds[i] : bounds[i + 1]]
            by_item = batch[np.argsort(item[batch], kind="stable")]
            summary = start[by_item] + (sizes[by_item] - 1 if self.template.summary_last else 0)
            with torch.inference_mode() if count else nullcontext():  # of the thread that it runs in
                hidden = self._forward_or_halve(model, windows, batch, int(padded[batch[-1]]))
                return (
                    _sums_by_group(hidden, start[window[own]] + position[own], token[own], token_share[own]),
                    _sums_by_group(hidden, summary, item[by_item], item_share[by_item]),
                )

        for of_tokens, of_items in side_by_side(run, range(len(batches)), count):
            of_tokens.add_to(vectors)
            of_items.add_to(summaries)
        return vectors, summaries

    def _batches(self, sizes: np.ndarray, count: int = 0) -> Iterator[np.ndarray]:
        """Windows in order of length, as many as fit the budget of padded wordpieces; of few, as much for each worker.

        count: of workers; 0 in training.
        """
        order = np.argsort(sizes, kind="stable")
        most = self.batch_pieces
        if count > 1:
            rounds = max(1, math.ceil(sizes.sum() / (most * count)))
            most = min(most, math.ceil(sizes.sum() / (rounds * count)))
        some = _few_counts if count and self.device.type == "cpu" else int
        first = 0
        for i, size in enumerate(sizes[order].tolist()):
            while i > first and size * (i + 1 - first) > most:
                yield order[first : first + some(i - first)]
                first += some(i - first)
        while first < len(order):
            yield order[first : first + some(len(order) - first)]
            first += some(len(order) - first)

    def _forward_or_halve(self, model: Callable, windows: _Windows, chosen: np.ndarray, longest: int) -> Tensor:
        """`_forward`, in two halves where the device has not the memory. RAISES (UserError): nor for one window alone."""
        try:
            return self._forward(model, windows, chosen, longest)
        except torch.OutOfMemoryError as error:
            if len(chosen) == 1:
                raise UserError(
                    f"{self.device} has not the memory for one window of {longest} wordpieces; set a smaller "
                    f'components.transformer.model.window, another device, or precision = "bf16"'
                ) from error
        torch.cuda.empty_cache()  # here, where the error no longer holds on to what was allocated
        halves = chosen[: len(chosen) // 2], chosen[len(chosen) // 2 :]
        return torch.cat([self._forward_or_halve(model, windows, half, longest) for half in halves])

    def _forward(self, model: Callable, windows: _Windows, chosen: np.ndarray, longest: int) -> Tensor:
        """The last hidden states of a padded batch of windows, as rows: (windows * longest, width)."""
        mask = windows.mask(chosen, longest)
        padded = np.full(mask.shape, self.tokenizer.pad_token_id or 0, dtype=np.int64)
        padded[mask] = windows.ids[windows.rows(chosen)]
        inputs = {"input_ids": upload(padded, self.device)}
        # Of a mask of (batch, length) they ask on the device whether it hides anything, for which a GPU would have to be waited.
        broadcast = self._broadcasts_mask and (self.device.type != "cpu" or not mask.all())
        inputs["attention_mask"] = upload((mask[:, None] if broadcast else mask).astype(np.int64), self.device)
        if self._accepts_types:
            prompted = windows.types[chosen][:, None]
            of_text = np.where(prompted > 0, self.template.text_type, 0)
            types = np.where(np.arange(longest) < prompted, self.template.prompt_type, of_text) * mask
            inputs["token_type_ids"] = upload(types, self.device)
        with planless_attention(self.device):
            return model(**inputs).last_hidden_state.float().flatten(0, 1)


def _few_lengths(sizes: np.ndarray, device: torch.device) -> np.ndarray:
    """Each size, or a little more, for which the device's kernels are faster.

    On a CPU up to an eighth more, since kernels are made, and kept, for each size that is met. Else a multiple of 8, for tensor
    cores.
    """
    step = 1 << np.maximum(np.frexp(sizes)[1] - 4, 0) if device.type == "cpu" else 8
    return -(-sizes // step) * step


def _few_counts(count: int) -> int:
    """The count, or down to a third less; see `_few_lengths`."""
    step = 1 << max(count.bit_length() - 2, 0)
    return count // step * step


def _words_in_windows(pairs: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Which of its window's tokens, counted from 1, each wordpiece belongs to; 0 where that is read elsewhere.

    pairs, sizes: as `_Windows` has them.
    """
    token, window, position = pairs.T
    first = np.full(len(sizes), np.iinfo(np.int64).max)
    np.minimum.at(first, window, token)
    found = np.zeros(sizes.sum(), dtype=np.int64)
    found[np.cumsum(sizes)[window] - sizes[window] + position] = token - first[window] + 1
    return found


def _shares(group: np.ndarray) -> np.ndarray:
    """1 / the size of its group, for each member."""
    return (1 / np.maximum(np.bincount(group), 1))[group].astype(np.float32)


@dataclass
class _Sums:
    """Sums of rows, (groups, width), and each group's row of the table that they are to be added to."""

    sums: Tensor
    place: np.ndarray

    def add_to(self, total: Tensor) -> None:
        if self.sums.is_inference() and total.device.type == "cpu":
            total.numpy()[self.place] += self.sums.numpy()  # torch would wake its threads, which the workers are in need of
        else:
            total[upload(self.place, total.device)] += self.sums


def _sums_by_group(hidden: Tensor, rows: np.ndarray, group: np.ndarray, share: np.ndarray) -> _Sums:
    """The weighted sum of each group's rows. group: ascending."""
    first = np.flatnonzero(np.append(True, group[1:] != group[:-1])) if len(rows) else np.zeros(0, np.int64)
    index, starts, weights = (upload(array, hidden.device) for array in (rows, first, share))
    sums = nn.functional.embedding_bag(index, hidden, starts, mode="sum", per_sample_weights=weights)
    return _Sums(sums, group[first])
