"""Documents said in other words: translated into another language and back."""

from typing import Any, Dict, List, Optional

import torch
from spacy.lang.xx import MultiLanguage
from spacy.language import Language
from spacy.tokens import Doc

from mtl.augment.augmenter import SECTION, Augmenter
from mtl.data.docs import gold_number, set_gold_number
from mtl.encoder.limits import pick_device
from mtl.errors import UserError, check_range

BATCH = 16  # sentences translated together
MOST = 512  # wordpieces of a sentence


def back_translation_augmenter(
    there: str, back: str, level: float = 0.3, beams: int = 1, device: str = "auto", seed: int = 0
) -> "BackTranslation":
    """`mtl.BackTranslationAugmenter.v1`: see `BackTranslation`."""
    return BackTranslation(there, back, level, beams, device, seed)


class BackTranslation(Augmenter):
    """Translates sentence by sentence, there and back. Categories and score hold; where entities and answers went, nobody knows.

    (Sennrich et al. 2016, https://arxiv.org/abs/1511.06709.) Documents without category or score are left as they are. Each
    document is translated once, however often it is seen. there, back (str): any two models of transformers that translate
    (AutoModelForSeq2SeqLM), such as Helsinki-NLP/opus-mt-en-de and -de-en, by name on the hub or folder. beams (int): of the
    search. RAISES (UserError): a model cannot be loaded.
    """

    def __init__(self, there: str, back: str, level: float, beams: int, device: str, seed: int) -> None:
        super().__init__(level, seed)
        check_range(f"{SECTION} beams", beams, 1)
        self.names, self.beams, self.device = (there, back), beams, pick_device(device)
        self._models: List[Any] = []
        self._said: Dict[str, str] = {}
        self._sentences = MultiLanguage()
        self._sentences.add_pipe("sentencizer")

    def changed(self, nlp: Language, reference: Doc) -> Optional[Doc]:
        number = gold_number(reference)
        if not reference.cats and number is None:
            return None
        if reference.text not in self._said:
            self._said[reference.text] = self.translated(reference.text)
        new = nlp.make_doc(self._said[reference.text])
        new.cats = dict(reference.cats)
        if number is not None and len(new):
            set_gold_number(new, number)
        return new

    def translated(self, text: str) -> str:
        """The text, there and back."""
        if not self._models:
            self._models = [_load(name, self.device) for name in self.names]
        sentences = [sentence.text.strip() for sentence in self._sentences(text).sents if sentence.text.strip()]
        for tokenizer, model in self._models:
            said: List[str] = []
            for begin in range(0, len(sentences), BATCH):
                said += self._generate(tokenizer, model, sentences[begin : begin + BATCH])
            sentences = said
        return " ".join(sentence for sentence in sentences if sentence)

    @torch.inference_mode()
    def _generate(self, tokenizer: Any, model: Any, sentences: List[str]) -> List[str]:
        most = min(getattr(model.config, "max_position_embeddings", None) or MOST, MOST)  # T5 has no limit of its own
        given = tokenizer(sentences, padding=True, truncation=True, max_length=most, return_tensors="pt").to(self.device)
        longest = min(16 + 2 * given["input_ids"].shape[1], most - 1)
        made = model.generate(
            input_ids=given["input_ids"], attention_mask=given["attention_mask"], num_beams=self.beams, do_sample=False,
            max_new_tokens=longest,
        )  # fmt: skip
        return [text.strip() for text in tokenizer.batch_decode(made, skip_special_tokens=True)]


def _load(name: str, device: torch.device) -> Any:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name), AutoModelForSeq2SeqLM.from_pretrained(name).to(device).eval()
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{SECTION} {name!r}: no model that translates can be loaded: {reason}") from error
