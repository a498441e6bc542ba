"""An example of each format, and what is read of it: for `mtl formats`, and for the pages of the documentation."""

from dataclasses import dataclass
from typing import Dict, List, Tuple


@dataclass(frozen=True)
class Example:
    """A file of a format.

    Args:
        file (str): Its name; "" if it is no text.
        content (str): What is in it.
        reads (Tuple[str, ...]): What is read, a sentence each.
        leaves_out (Tuple[str, ...]): What is counted and left out.
        link (str): Where the format is defined.
    """

    file: str
    content: str
    reads: Tuple[str, ...]
    leaves_out: Tuple[str, ...] = ()
    link: str = ""


def format_lines(name: str, title: str) -> List[str]:
    """What is known of a format, as Markdown."""
    example = EXAMPLES[name]
    lines = [f"# {title}", "", f"`--format {name}`" + (f", defined at <{example.link}>" if example.link else ""), ""]
    if example.content:
        lines += [f"`{example.file}`:", "", "```text", *example.content.rstrip("\n").split("\n"), "```", ""]
    lines += ["What is read:", "", *(f"- {sentence}" for sentence in example.reads), ""]
    if example.leaves_out:
        lines += ["What is left out, and counted:", "", *(f"- {sentence}" for sentence in example.leaves_out), ""]
    return lines[:-1]


EXAMPLES: Dict[str, Example] = {
    "jsonl": Example(
        "rows.jsonl",
        '{"text": "The fuel pump had seized.", "label": "WEAR", "entities": [{"start": 4, "end": 13, "label": "PART"}]}\n'
        '{"text": "Nothing was found.", "entities": [], "qas": [{"question": "What failed?", "answers": []}]}\n',
        (
            "One JSON object for each document, on lines or in an array, also inside an object (`{\"data\": [...]}`) or by "
            "columns.",
            "`text`, or another usual name such as `content` or `sentence`.",
            "`label` (one category), `labels` (several), or `cats` (category to degree).",
            "`entities`, `spans` or `ents`: `[start, end, label]`, or objects under the names that tools use (`start_char`, "
            "`type`, "
            "`BeginOffset`, `entity_group`, ...); the mention's text, if it is there, is checked.",
            "`qas` or `questions` as in SQuAD, and `score`, a number.",
            "`--column text=meta.body` names a key inside an object.",
        ),
        ("Other keys, which are counted; one that looks like a typing error is shown with what is meant.",),
    ),
    "prodigy": Example(
        "annotations.jsonl",
        '{"text": "Apple buys Uber.", "_input_hash": 1, "answer": "accept", "_view_id": "ner_manual",\n'
        ' "spans": [{"start": 0, "end": 5, "label": "ORG"}]}\n'.replace(",\n ", ", "),
        (
            "Spans, categories of `textcat` (binary) and of choices.",
            "Accepted rows without spans have none; a rejected category does not hold.",
            "In binary rows (`ner.teach`) only what was shown is annotated; the answers on one text are put together.",
        ),
        ("Ignored rows, rejected spans, relations.",),
        "https://prodi.gy/docs/api-interfaces",
    ),
    "label-studio": Example(
        "project.json",
        '[{"id": 1, "data": {"text": "Apple buys Uber."}, "annotations": [{"result": [\n'
        '  {"id": "a", "from_name": "label", "type": "labels", "value": {"start": 0, "end": 5, "text": "Apple", "labels": '
        '["ORG"]}},\n'
        '  {"from_name": "topic", "type": "choices", "value": {"choices": ["Business"]}}]}]}]\n',
        (
            "JSON, JSON-MIN and CSV: labels, choices, taxonomies (a path is one category), ratings and numbers.",
            "Offsets in UTF-16 units, of which an emoji has two, are converted.",
            "The choice of a region is an attribute of its entity; of several fields each is annotated where it has a choice.",
            "Of several annotations the one that is ground truth, or the last.",
        ),
        ("Tasks that nobody has annotated, cancelled annotations, predictions, relations.",),
        "https://labelstud.io/guide/export",
    ),
    "doccano": Example(
        "all.jsonl",
        '{"id": 1, "text": "Apple buys Uber.", "label": [[0, 5, "ORG"], [11, 15, "ORG"]]}\n',
        (
            "Sequence labelling (`label`, `labels`, `entities`), text classification, and intents with slots, as JSON Lines "
            "or the "
            "zip archive of them.",
            "An empty `label` means that there is none.",
        ),
        ("Relations. Sequence-to-sequence projects are refused.",),
        "https://doccano.github.io/doccano/",
    ),
    "brat": Example(
        "note.ann",
        "T1\tPART 4 13\tfuel pump\nA1\tNegated T1\n",
        (
            "A folder, or an archive, of `.txt` files with `.ann` files beside them: text-bound annotations and their "
            "attributes.",
            "A discontinuous mention is read from its first to its last character, and counted.",
        ),
        ("Relations, events, normalizations, notes.",),
        "https://brat.nlplab.org/standoff.html",
    ),
    "conll": Example(
        "train.conll",
        "The\tO\nfuel\tB-PART\npump\tI-PART\nhad\tO\nseized\tO\n.\tO\n",
        (
            "A token a line, a blank line between sentences, `-DOCSTART-` between documents, which are cut between sentences "
            "at 1,000 "
            "tokens. Without such marks every sentence is a document; `--sentences-per-document 10` puts more together.",
            "IOB1, IOB2, BIOES (BILUO) and IO tags, told apart by the tags.",
            "The columns are found, also in CoNLL-2003, OntoNotes, GermEval, GENIA, WikiAnn and MultiCoNER files; "
            "`--column tag=3 --column text=1` names them.",
        ),
        ("A tag that cannot follow the one before it is an error; `--repair tags` lets it begin an entity.",),
        "https://www.clips.uantwerpen.be/conll2003/ner/",
    ),
    "conllu": Example(
        "train.conllu",
        "# newdoc\n1\tBerlin\tBerlin\tPROPN\t_\t_\t0\troot\t_\tNER=B-LOC|SpaceAfter=No\n"
        "2\t.\t.\tPUNCT\t_\t_\t1\tpunct\t_\tNER=O\n",
        ("IOB tags in the last column, under `NER` or the key that `--column tag=KEY` names; the text as `SpaceAfter` has it.",),
        ("All other columns.",),
        "https://universaldependencies.org/format.html",
    ),
    "webanno": Example(
        "admin.tsv",
        "#FORMAT=WebAnno TSV 3.3\n#T_SP=webanno.custom.Thing|kind\n\n\n#Text=Apple buys Uber\n"
        "1-1\t0-5\tApple\tORG\n1-2\t6-10\tbuys\t_\n1-3\t11-15\tUber\tORG\n",
        (
            "WebAnno TSV 3 as INCEpTION exports it, one document a file: the feature of the only layer of spans, or the one that "
            "`--column tag=NamedEntity.value` names.",
        ),
        ("Layers of relations and chains.",),
        "https://inception-project.github.io/",
    ),
    "bioc": Example(
        "abstracts.json",
        '{"documents": [{"id": "1", "passages": [{"offset": 0, "text": "Aspirin helps.", "annotations": [\n'
        '  {"infons": {"type": "Chemical"}, "text": "Aspirin", "locations": [{"offset": 0, "length": 7}]}]}]}]}\n',
        ("Collections and documents, also PubTator 3's; passages and sentences become one text.",),
        ("Relations, annotations without a place.",),
        "https://bioc.sourceforge.net/",
    ),
    "bioc-xml": Example(
        "abstracts.xml",
        "<collection><document><id>1</id><passage><offset>0</offset><text>Aspirin helps.</text><annotation>"
        '<infon key="type">Chemical</infon><location offset="0" '
        'length="7"/><text>Aspirin</text></annotation></passage></document>'
        "</collection>\n",
        ("As BioC JSON.",),
        ("Relations.",),
        "https://bioc.sourceforge.net/",
    ),
    "pubtator": Example(
        "abstracts.txt",
        "1|t|Aspirin helps.\n1|a|It is cheap.\n1\t0\t7\tAspirin\tChemical\tD001241\n",
        ("Title and abstract, joined by a space as the offsets count them, and the mentions.",),
        ("Relations, identifiers.",),
        "https://www.ncbi.nlm.nih.gov/research/pubtator/",
    ),
    "tokens": Example(
        "train.json",
        '[{"tokens": ["Apple", "buys", "Uber"], "ner_tags": ["B-ORG", "O", "B-ORG"]}]\n',
        (
            "`tokens` or `words` with IOB tags, as in Hugging Face's data sets; numbers of tags need their names, which "
            "parquet files "
            "and saved data sets have.",
            "GLiNER (`tokenized_text`, `ner`), SciERC and SpERT: spans of tokens.",
        ),
    ),
    "squad": Example(
        "train.json",
        '{"version": "v2.0", "data": [{"title": "Oslo", "paragraphs": [{"context": "Oslo is in Norway.", "qas": [\n'
        '  {"id": "1", "question": "Where is Oslo?", "answers": [{"text": "Norway", "answer_start": 11}], "is_impossible": '
        'false}]}]}]}\n',
        (
            "SQuAD 1.1 and 2.0, nested and flat (`context`, `question`, `answers`), MRQA, and Haystack's exports.",
            "An answer without a place is where the text has it first.",
        ),
        ("Answers that are not within 48 characters of their offset.",),
        "https://rajpurkar.github.io/SQuAD-explorer/",
    ),
    "spacy-json": Example(
        "train.json",
        '[["Apple buys Uber.", {"entities": [[0, 5, "ORG"], [11, 15, "ORG"]], "cats": {"BUSINESS": 1.0}}]]\n',
        ("spaCy v2's training data: pairs of a text and its annotation, or its JSON with paragraphs, sentences and tokens.",),
        (),
        "https://v2.spacy.io/api/annotation#json-input",
    ),
    "docbin": Example(
        "",
        "",
        ("spaCy's `.spacy` files and folders of them: entities, categories, questions, numbers, and `doc.spans[\"sc\"]`.",),
        (),
        "https://spacy.io/api/docbin",
    ),
    "table": Example(
        "tickets.csv",
        'Body;Queue\n"The fuel pump had seized; it was replaced.";WEAR\nA loose clamp was found.;INSTALLATION\n',
        (
            "CSV with any delimiter, TSV, Excel (`spacy-mtl[excel]`), parquet, a folder of Hugging Face's `datasets`, or "
            "`hf:NAME@SPLIT` "
            "on the hub.",
            "The columns are known by usual names, or named: `text=`, `label=`, `labels=` (several in a cell), `cats=` (a column "
            "for each category), `score=`. Columns of yes and no are categories.",
            "`--column header=3` if the names are in another line, `header=none` if there are none; `--column sheet=Data` for "
            "Excel.",
        ),
        ("Cells such as `nan` and `N/A`, which are not annotated.",),
    ),
    "span-table": Example(
        "entities.csv",
        "text,start,end,label\nApple buys Uber.,0,5,ORG\nApple buys Uber.,11,15,ORG\n",
        ("A table whose rows are entities; those of one text follow each other. A row without a start says that there are "
         "none.",),
    ),
    "token-table": Example(
        "ner_dataset.csv",
        "Sentence #,Word,POS,Tag\nSentence: 1,Apple,NNP,B-ORG\n,buys,VBZ,O\n,Uber,NNP,B-ORG\n",
        ("A table whose rows are tokens with IOB tags, and a column that numbers the sentences.",),
    ),
    "fasttext": Example(
        "train.txt", "__label__WEAR __label__ENGINE The fuel pump had seized.\n", ("Labels before the text.",), (),
        "https://fasttext.cc/",
    ),
    "dataturks": Example(
        "resumes.json",
        '{"content": "Apple buys Uber.", "extras": null, "annotation": [{"label": ["ORG"], "points": [{"start": 0, "end": 4, '
        '"text": "Apple"}]}]}\n',
        ("Entities, whose ends are the last character, and categories.",),
    ),
    "lighttag": Example(
        "job.json",
        '{"examples": [{"example_id": "1", "content": "Apple buys Uber.", "annotations": [{"start": 0, "end": 5, "tag": "ORG", '
        '"value": "Apple"}]}]}\n',
        ("Annotations and classifications.",),
        ("Annotations that a reviewer has rejected, relations.",),
    ),
    "sagemaker": Example(
        "output.manifest",
        '{"source": "Apple buys Uber.", "topic": 0, "topic-metadata": {"class-name": "Business", "type": '
        '"groundtruth/text-classification"}}\n',
        ("Manifests of SageMaker Ground Truth: text classification and named entities.",),
    ),
}  # fmt: skip
