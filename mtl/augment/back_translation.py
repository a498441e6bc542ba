"""Documents paraphrased by translating them into another language and back."""

from typing import Any, Dict, List, Optional

import torch
from spacy.lang.xx import MultiLanguage
from spacy.language import Language
from spacy.tokens import Doc

from mtl.augment.augmenter import SECTION, Augmenter
from mtl.augment.rewrite import Moves
from mtl.encoder.runtime.device import pick_device
from mtl.errors import UserError, check_range
from mtl.registry import Change, registered_tasks

SENTENCES_AT_ONCE = 16  # in a batch of the translation model
MAX_SUBWORDS = 512  # of a sentence


def back_translation_augmenter(
    forward_model: str, backward_model: str, level: float = 0.3, beams: int = 1, device: str = "auto", seed: int = 0
) -> "BackTranslationAugmenter":
    """Augmenter `mtl.BackTranslationAugmenter.v1`: translates a document into another language and back, sentence by sentence.

    Back-translation (Sennrich et al. 2016, https://arxiv.org/abs/1511.06709). The annotation of whole documents, categories and
    score, is kept; entities and answers are dropped, because their new positions are unknown. Documents without category or score
    are left as they are. Each document is translated only once, however often it is seen.

    Args:
        forward_model (str): The translation model into the other language, such as Helsinki-NLP/opus-mt-en-de: any
            sequence-to-sequence model of transformers, by its name on the Hugging Face Hub or its folder.
        backward_model (str): The translation model back, such as Helsinki-NLP/opus-mt-de-en.
        level (float): Fraction of the documents that are changed.
        beams (int): Number of beams in beam search; 1 for greedy decoding.
        device (str): "cpu", "cuda", "cuda:1" and so on, or "auto" for a GPU if there is one.
        seed (int): The same documents in the same order are changed in the same way.

    Raises:
        UserError: A setting is out of range, or a model cannot be loaded.
    """
    return BackTranslationAugmenter(forward_model, backward_model, level, beams, device, seed)


class BackTranslationAugmenter(Augmenter):
    """See `back_translation_augmenter`, which has the same arguments."""

    stream = "BackTranslation"

    def __init__(self, forward_model: str, backward_model: str, level: float, beams: int, device: str, seed: int) -> None:
        super().__init__(level, seed)
        check_range(f"{SECTION} beams", beams, 1)
        self.names, self.beams, self.device = (forward_model, backward_model), beams, pick_device(device)
        self._models: List[Any] = []
        self._translations: Dict[str, str] = {}
        self._sentences = MultiLanguage()
        self._sentences.add_pipe("sentencizer")

    def changed(self, nlp: Language, reference: Doc) -> Optional[Doc]:
        surviving_tasks = [task for task in registered_tasks() if Change.PARAPHRASE in task.survives]
        tasks = [task for task in surviving_tasks if task.is_annotated(reference)]
        if not tasks:
            return None
        if reference.text not in self._translations:
            self._translations[reference.text] = self.translated(reference.text)
        new = nlp.make_doc(self._translations[reference.text])
        for task in tasks if len(new) else ():
            task.transfer(reference, new, Moves((), {}))
        return new

    def translated(self, text: str) -> str:
        """The text, translated into the other language and back."""
        if not self._models:
            self._models = [_load_translator(name, self.device) for name in self.names]
        sentences = [sentence.text.strip() for sentence in self._sentences(text).sents if sentence.text.strip()]
        for tokenizer, model in self._models:
            outputs: List[str] = []
            for begin in range(0, len(sentences), SENTENCES_AT_ONCE):
                outputs += self._generate(tokenizer, model, sentences[begin : begin + SENTENCES_AT_ONCE])
            sentences = outputs
        return " ".join(sentence for sentence in sentences if sentence)

    @torch.inference_mode()
    def _generate(self, tokenizer: Any, model: Any, sentences: List[str]) -> List[str]:
        """The translations of a batch of sentences."""
        limit = min(getattr(model.config, "max_position_embeddings", None) or MAX_SUBWORDS, MAX_SUBWORDS)  # T5 has no limit
        inputs = tokenizer(sentences, padding=True, truncation=True, max_length=limit, return_tensors="pt").to(self.device)
        max_new_tokens = min(16 + 2 * inputs["input_ids"].shape[1], limit - 1)
        outputs = model.generate(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], num_beams=self.beams, do_sample=False,
            max_new_tokens=max_new_tokens,
        )  # fmt: skip
        return [text.strip() for text in tokenizer.batch_decode(outputs, skip_special_tokens=True)]


def _load_translator(name: str, device: torch.device) -> Any:
    """The tokenizer and the model of that name or folder."""
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name), AutoModelForSeq2SeqLM.from_pretrained(name).to(device).eval()
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{SECTION} {name!r}: no translation model can be loaded from there: {reason}") from error
