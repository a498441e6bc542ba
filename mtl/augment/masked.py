"""Words replaced by words that a masked language model, such as the adapted encoder itself, expects in their place."""

from typing import Any, Dict, List, Optional, Tuple

import torch
from spacy.language import Language
from spacy.tokens import Doc

from mtl.augment.augmenter import SECTION, Augmenter, check_keep
from mtl.augment.rewrite import Edit, free_words, in_case_of, rewritten, surviving
from mtl.encoder.model.mlm import load_mlm
from mtl.encoder.pretrained.architecture import max_length
from mtl.encoder.pretrained.sources import load_tokenizer
from mtl.encoder.pretrained.trial import check_vocabulary
from mtl.encoder.runtime.device import pick_device
from mtl.errors import UserError, check_range
from mtl.registry import Change

Candidates = List[Tuple[str, float]]  # words and their probabilities


def masked_augmenter(
    encoder: str, level: float = 0.3, fraction: float = 0.15, candidates: int = 10, keep: Optional[List[str]] = None,
    device: str = "auto", seed: int = 0,
) -> "MaskedLMAugmenter":  # fmt: skip
    """Augmenter `mtl.MaskedLMAugmenter.v1`: replaces words by words that a masked language model expects in their place.

    Contextual augmentation (Kobayashi 2018, https://arxiv.org/abs/1805.06201), without the label. Such a word fits, and may still
    reverse the meaning (increased, decreased), so that by default little annotation beside entities is kept. Words inside an
    entity, an answer or another span are never replaced. Stop words are neither replaced nor put in.

    Args:
        encoder (str): A folder that `mtl adapt` wrote, or a masked language model on the Hugging Face Hub.
        level (float): Fraction of the documents that are changed.
        fraction (float): Fraction of the words that are replaced, at least one in a changed document.
        candidates (int): How many of the likeliest words one is drawn from, by its probability.
        keep (Optional[List[str]]): The kinds of annotation that are valid with other words: names of tasks, "spans", "lemmas",
            "sentences" or "dependencies". By default those that the tasks say survive.
        device (str): "cpu", "cuda", "cuda:1" and so on, or "auto" for a GPU if there is one.
        seed (int): The same documents in the same order are changed in the same way.

    Raises:
        UserError: A setting is out of range, or the encoder has no trained language-model head.
    """
    return MaskedLMAugmenter(encoder, level, fraction, candidates, keep, device, seed)


class MaskedLMAugmenter(Augmenter):
    """See `masked_augmenter`, which has the same arguments."""

    stream = "Masked"

    def __init__(
        self, encoder: str, level: float, fraction: float, candidates: int, keep: Optional[List[str]], device: str, seed: int
    ) -> None:
        super().__init__(level, seed)
        check_range(f"{SECTION} fraction", fraction, 0.0, 1.0)
        check_range(f"{SECTION} candidates", candidates, 1)
        self.keep = surviving(Change.LIKELY_WORDS) if keep is None else frozenset(keep)
        check_keep(self.keep)
        self.encoder, self.fraction, self.candidates = encoder, fraction, candidates
        self.device = pick_device(device)
        self._model: Any = None
        self._words: Dict[int, str] = {}

    def _load(self) -> None:
        """Load the model when the first document is changed."""
        model, untrained = load_mlm(self.encoder)
        if untrained:
            raise UserError(
                f"{SECTION} encoder {self.encoder!r}: its language-model head is not trained ({untrained[0]} is missing); "
                f"`mtl adapt` trains one"
            )
        self._tokenizer = load_tokenizer(self.encoder)
        if self._tokenizer.mask_token_id is None:
            raise UserError(f"{SECTION} encoder {self.encoder!r}: its tokenizer has no mask token")
        check_vocabulary(model, self._tokenizer)
        self._model = model.to(self.device).eval()
        mask_alone = self._tokenizer.build_inputs_with_special_tokens([self._tokenizer.mask_token_id])
        self._leading_specials = mask_alone.index(self._tokenizer.mask_token_id)
        self._window = max_length(model.base_model, model.config) - self._tokenizer.num_special_tokens_to_add()

    def changed(self, nlp: Language, reference: Doc) -> Optional[Doc]:
        if self._model is None:
            self._load()
        positions = self.sample([i for i in free_words(reference) if not reference[i].is_stop], self.fraction)
        edits = []
        for i, candidates in self._likely_words(reference, positions).items():
            others = [(word, probability) for word, probability in candidates if word.lower() != reference[i].lower_]
            fitting = [(word, probability) for word, probability in others if not reference.vocab[word].is_stop]
            if fitting:
                (word,) = self.rng.choices([word for word, _ in fitting], [probability for _, probability in fitting])
                edits.append(Edit(i, i + 1, (in_case_of(word, reference[i].text),)))
        return rewritten(reference, edits, self.keep) if edits else None

    def _likely_words(self, reference: Doc, positions: List[int]) -> Dict[int, Candidates]:
        """For each position the likeliest whole words. All subwords of the word there become a single mask."""
        encoding = self._tokenizer(reference.text, add_special_tokens=False, return_offsets_mapping=True)
        starts = {reference[i].idx: i for i in positions}
        input_ids: List[int] = []
        masks: List[Tuple[int, int]] = []  # index in the input, token
        masked_until = 0  # the character after the word that is masked
        for subword_id, (start, end) in zip(encoding["input_ids"], encoding["offset_mapping"]):
            subword = reference.text[start:end]
            start += len(subword) - len(subword.lstrip())  # some tokenizers count the space before
            if start in starts:
                masks.append((len(input_ids), starts[start]))
                input_ids.append(self._tokenizer.mask_token_id)
                masked_until = start + len(reference[starts[start]])
            elif start >= masked_until:
                input_ids.append(subword_id)
        likely: Dict[int, Candidates] = {}
        for begin in range(0, len(input_ids), self._window):
            in_window = [(index - begin, token) for index, token in masks if begin <= index < begin + self._window]
            if in_window:
                likely |= self._predict_window(input_ids[begin : begin + self._window], in_window)
        return likely

    @torch.inference_mode()
    def _predict_window(self, subword_ids: List[int], masks: List[Tuple[int, int]]) -> Dict[int, Candidates]:
        """The likeliest whole words at the masks of one window."""
        input_ids = torch.tensor([self._tokenizer.build_inputs_with_special_tokens(subword_ids)], device=self.device)
        logits = self._model(input_ids=input_ids, attention_mask=torch.ones_like(input_ids)).logits[0].float()
        rows = [self._leading_specials + index for index, _ in masks]
        top = logits[rows].softmax(-1).topk(min(self.candidates, logits.shape[-1]))
        return {
            token: [(word, probability) for subword_id, probability in zip(ids, values) if (word := self._word(subword_id))]
            for (_, token), ids, values in zip(masks, top.indices.tolist(), top.values.tolist())
        }

    def _word(self, subword_id: int) -> str:
        """The subword as text if it is a word by itself, else ""."""
        if subword_id not in self._words:
            text = self._tokenizer.decode([subword_id]).strip()
            is_word = text.isalpha() and self._tokenizer(f" {text}", add_special_tokens=False)["input_ids"][-1:] == [subword_id]
            self._words[subword_id] = text if is_word and len(text) > 1 else ""
        return self._words[subword_id]
