"""What the rest of spacy-mtl asks of the task. Gold is in `doc.spans["mood"].attrs["mood"]`, which a DocBin keeps."""

from collections import Counter

from spacy.tokens import SpanGroup

from mtl.registry import Change, ProbeItem, Score, Task

KEY = "mood"


def gold_mood(doc):
    """The gold mood, None if the document is not annotated."""
    return doc.spans[KEY].attrs.get(KEY) if KEY in doc.spans else None


class MoodTask(Task):
    """The mood of a document."""

    name = "mood"
    factory = "toy_mood"
    title = "mood"
    scores = (Score("mood_acc", "mood: accuracy"),)
    headlines = ("mood_acc",)
    survives = frozenset({Change.SYNONYMS, Change.PARAPHRASE})
    json_keys = ("mood",)  # read from JSON Lines

    def is_annotated(self, doc):
        return gold_mood(doc) is not None

    def labels(self, doc):
        return {gold_mood(doc)}

    def annotate(self, doc, record, report):
        if record.extra.get("mood"):
            doc.spans[KEY] = SpanGroup(doc, name=KEY, attrs={KEY: record.extra["mood"]})
            report.count("documents with a mood")

    def signature(self, doc):
        return (str(gold_mood(doc)),)

    def span_keys(self, doc):
        return {KEY} & set(doc.spans)

    def transfer(self, doc, new, moved):
        new.spans[KEY] = SpanGroup(new, name=KEY, attrs={KEY: gold_mood(doc)})

    def trivial_baseline(self, train, test):
        known, gold = ([mood for doc in docs if (mood := gold_mood(doc))] for docs in (train, test))
        if not known or not gold:
            return {}
        return {"mood_acc": (gold.count(Counter(known).most_common(1)[0][0]) / len(gold), "most frequent mood")}

    def usage(self, component):
        return "doc._.mood"

    def show(self, doc, component):
        return [doc._.mood]

    def show_gold(self, doc):
        return [gold_mood(doc)]

    def probe_items(self, doc):
        return [ProbeItem(None, {gold_mood(doc): True})]
