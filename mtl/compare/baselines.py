"""What needs no encoder: a bag of words for categories, a dictionary for entities."""

from pathlib import Path
from typing import Dict, List, Optional, Sequence

from spacy.tokens import Doc
from spacy.vocab import Vocab

from mtl.data.docs import read_docs
from mtl.errors import UserError
from mtl.training.evaluation import best_category, dictionary_baseline


def baselines_without_encoder(train: Sequence[Path], test: Sequence[Path]) -> Dict[str, float]:
    """Score -> what the baseline reaches, as `mtl evaluate` measures it. RAISES (UserError): scikit-learn is not installed."""
    vocab = Vocab()
    known, scored = ([doc for path in paths for doc in read_docs(path, vocab)] for paths in (train, test))
    found = {"cats_accuracy": bag_of_words(known, scored), "ents_f": dictionary_baseline(known, scored)}
    return {key: value for key, value in found.items() if value is not None}


def bag_of_words(train: List[Doc], test: List[Doc]) -> Optional[float]:
    """Accuracy of a logistic regression on TF-IDF of words and word pairs; None where categories are not exclusive."""
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
    except ImportError:
        raise UserError('the baselines need scikit-learn: pip install "spacy-mtl[compare]"') from None
    known, scored = ([doc for doc in docs if sum(doc.cats.values()) == 1] for docs in (train, test))
    labels = [best_category(doc.cats) for doc in known]
    if not scored or len(set(labels)) < 2:
        return None
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10, max_iter=1000))
    model.fit([doc.text for doc in known], labels)
    guessed = model.predict([doc.text for doc in scored])
    return sum(guess == best_category(doc.cats) for guess, doc in zip(guessed, scored)) / len(scored)
