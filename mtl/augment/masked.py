"""Words for words that the encoder's own language model expects in their place."""

from typing import Any, Dict, List, Optional, Tuple

import torch
from spacy.language import Language
from spacy.tokens import Doc

from mtl.augment.augmenter import SECTION, Augmenter, check_kinds
from mtl.augment.rewrite import Edit, free_words, like, rewritten
from mtl.encoder.limits import pick_device, real_length
from mtl.encoder.mlm import load_mlm
from mtl.encoder.sources import load_tokenizer
from mtl.errors import UserError, check_range


def masked_augmenter(
    encoder: str, level: float = 0.3, share: float = 0.15, candidates: int = 10, keep: List[str] = ["entities"],
    device: str = "auto", seed: int = 0,
) -> "Masked":  # fmt: skip
    """`mtl.MaskedLMAugmenter.v1`: see `Masked`."""
    return Masked(encoder, level, share, candidates, keep, device, seed)


class Masked(Augmenter):
    """Hides words outside of entities and answers, and puts in others that a masked language model holds likely there.

    Such a word fits, and may still turn the meaning (increased, decreased), so that of the annotation only entities are kept
    unless `keep` names more; stop words stay, and are not put in. Source: Kobayashi 2018 (https://arxiv.org/abs/1805.06201),
    without the label.

    encoder (str): a folder that `mtl adapt` wrote, or a masked language model on the hub. share (float): of the words, how many
    are replaced; one at least. candidates (int): one of so many, the likeliest, is drawn by its probability.
    RAISES (UserError): the encoder has no trained language-model head.
    """

    def __init__(
        self, encoder: str, level: float, share: float, candidates: int, keep: List[str], device: str, seed: int
    ) -> None:
        super().__init__(level, seed)
        check_range(f"{SECTION} share", share, 0.0, 1.0)
        check_range(f"{SECTION} candidates", candidates, 1)
        check_kinds(keep)
        self.encoder, self.share, self.candidates, self.keep = encoder, share, candidates, keep
        self.device = pick_device(device)
        self._model: Any = None
        self._words: Dict[int, str] = {}

    def _load(self) -> None:
        model, untrained = load_mlm(self.encoder)
        if untrained:
            raise UserError(
                f"{SECTION} encoder {self.encoder!r}: its language-model head is not trained ({untrained[0]} is missing); "
                f"`mtl adapt` trains one"
            )
        self._tokenizer = load_tokenizer(self.encoder)
        if self._tokenizer.mask_token_id is None:
            raise UserError(f"{SECTION} encoder {self.encoder!r}: its tokenizer has no mask token")
        self._model = model.to(self.device).eval()
        alone = self._tokenizer.build_inputs_with_special_tokens([self._tokenizer.mask_token_id])
        self._before = alone.index(self._tokenizer.mask_token_id)  # special wordpieces
        self._window = real_length(model.base_model, model.config) - self._tokenizer.num_special_tokens_to_add()

    def changed(self, nlp: Language, reference: Doc) -> Optional[Doc]:
        if self._model is None:
            self._load()
        places = self.some([i for i in free_words(reference) if not reference[i].is_stop], self.share)
        likely = self._likely(reference, places)
        edits = []
        for i, found in likely.items():
            others = [(word, chance) for word, chance in found if word.lower() != reference[i].lower_]
            fits = [(word, chance) for word, chance in others if not reference.vocab[word].is_stop]
            if fits:
                (word,) = self.chance.choices([word for word, _ in fits], [chance for _, chance in fits])
                edits.append(Edit(i, i + 1, (like(word, reference[i].text),)))
        return rewritten(reference, edits, self.keep) if edits else None

    def _likely(self, reference: Doc, places: List[int]) -> Dict[int, List[Tuple[str, float]]]:
        """For each place the likeliest whole words with their probabilities; a word's wordpieces are one mask together."""
        encoding = self._tokenizer(reference.text, add_special_tokens=False, return_offsets_mapping=True)
        starts = {reference[i].idx: i for i in places}
        pieces: List[int] = []
        masks: List[Tuple[int, int]] = []  # place in the pieces, token
        until = 0  # where the word that is masked ends
        for piece, (start, end) in zip(encoding["input_ids"], encoding["offset_mapping"]):
            start += len(reference.text[start:end]) - len(reference.text[start:end].lstrip())  # some count the space before
            if start in starts:
                masks.append((len(pieces), starts[start]))
                pieces.append(self._tokenizer.mask_token_id)
                until = start + len(reference[starts[start]])
            elif start >= until:
                pieces.append(piece)
        found: Dict[int, List[Tuple[str, float]]] = {}
        for begin in range(0, len(pieces), self._window):
            own = [(at - begin, token) for at, token in masks if begin <= at < begin + self._window]
            if own:
                found |= self._in_window(pieces[begin : begin + self._window], own)
        return found

    @torch.inference_mode()
    def _in_window(self, pieces: List[int], masks: List[Tuple[int, int]]) -> Dict[int, List[Tuple[str, float]]]:
        whole = self._tokenizer.build_inputs_with_special_tokens(pieces)
        ids = torch.tensor([whole], device=self.device)
        logits = self._model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].float()
        top = logits[[self._before + at for at, _ in masks]].softmax(-1).topk(min(self.candidates, logits.shape[-1]))
        rows = zip(masks, top.indices.tolist(), top.values.tolist())
        return {
            token: [(word, chance) for piece, chance in zip(ids, chances) if (word := self._word(piece))]
            for (_, token), ids, chances in rows
        }

    def _word(self, piece: int) -> str:
        """The wordpiece as text where it is a word by itself, else ""."""
        if piece not in self._words:
            text = self._tokenizer.decode([piece]).strip()
            alone = text.isalpha() and self._tokenizer(f" {text}", add_special_tokens=False)["input_ids"][-1:] == [piece]
            self._words[piece] = text if alone and len(text) > 1 else ""
        return self._words[piece]
