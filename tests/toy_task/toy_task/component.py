"""The component: a loss for training, and predictions written to Docs."""

import torch
from spacy.language import Language
from spacy.tokens import Doc
from thinc.api import Config
from torch import nn

from mtl.tasks.component import Head
from mtl.tasks.loss import Loss
from mtl.tasks.outputs import label_outputs
from mtl.tasks.textcat.module import Textcat
from mtl.torch_model import torch_model
from toy_task.task import MoodTask, gold_mood

CONFIG = """
[mood]

[mood.model]
@architectures = "toy.Mood.v1"

[mood.model.encoder]
@architectures = "mtl.EncoderListener.v1"

[mood.scorer]
@scorers = "toy.mood_scorer.v1"
"""


def mood_architecture(encoder):
    """Architecture `toy.Mood.v1`: a linear layer on the mean of the token vectors."""
    return torch_model("toy-mood", Textcat, [encoder])


def make_mood(nlp, name, model, scorer):
    """Factory `toy_mood`."""
    return Mood(nlp.vocab, model, name, task=MoodTask(), scorer=scorer)


def make_mood_scorer():
    """`toy.mood_scorer.v1`."""
    return score_mood


def score_mood(examples, **kwargs):
    """Accuracy over the annotated examples."""
    examples = list(examples)
    if not examples:
        return {}
    return {"mood_acc": sum(eg.predicted._.mood == gold_mood(eg.reference) for eg in examples) / len(examples)}


class Mood(Head):
    """Sets `doc._.mood`."""

    def outputs(self, rows, batch, drop):
        logits = self.training_module(batch.vectors([(i, None) for i, _ in rows]), drop)
        return label_outputs(logits, range(len(rows)), [""] * len(rows), self.labels, exclusive=True)

    def gold_loss(self, outputs, rows):
        gold = torch.tensor([self.labels.index(gold_mood(example.reference)) for _, example in rows])
        logits = outputs.detail
        return Loss(nn.functional.cross_entropy(logits, gold.to(logits.device)), len(rows), outputs)

    def predict(self, docs):
        with torch.inference_mode():
            return self.prediction_module(self.vectors(list(docs))).argmax(-1).tolist()

    def set_annotations(self, docs, predictions):
        docs = list(docs)
        for doc, best in zip(docs, predictions):
            doc._.mood = self.labels[best]
        self.transformer.release(docs, self.name)


Doc.set_extension("mood", default=None, force=True)
Language.factory(
    "toy_mood", default_config=Config().from_str(CONFIG)["mood"], default_score_weights={"mood_acc": 1.0}, func=make_mood
)
