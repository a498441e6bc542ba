"""Usual names of columns and keys, in the order in which they are looked for."""

TEXT_NAMES = (
    "text", "sentence", "content", "document", "body", "abstract", "message", "review", "comment", "description", "utterance",
    "tweet", "query",
)  # fmt: skip
LABEL_NAMES = ("label", "category", "class", "target", "intent", "topic", "sentiment", "tag")
LIST_NAMES = ("labels", "categories", "tags", "topics")
SCORE_NAMES = ("score", "rating", "value", "stars")
TOKEN_NAMES = ("tokens", "words", "tokenized_text")
TAG_NAMES = ("ner_tags", "tags", "labels", "ner", "bio_tags", "iob_tags", "ner_labels")
MISSING = frozenset({"", "nan", "n/a", "na", "null", "<na>", "#n/a"})  # cells without a value, in lower case
