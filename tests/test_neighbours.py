"""Selection of paragraphs like the labelled documents, with a random control of the same size."""

import json

import pytest
import spacy

from mtl.adaptation.neighbours import NeighbourSettings, pick_neighbours
from mtl.data.docs import write_docs
from mtl.errors import UserError

PUMP = "The hydraulic pump of aircraft {} had lost pressure and was replaced by the night shift in hangar {}."
CAKE = "Stir butter and sugar for {} minutes, add the eggs, and bake the cake until golden, about {} minutes more."


@pytest.fixture
def files(tmp_path):
    pytest.importorskip("bm25s", reason="needs it: pip install spacy-mtl[neighbours]")
    paragraphs = [template.format(i, i * 7 % 50) for i in range(60) for template in (PUMP, CAKE)]
    (tmp_path / "large.txt").write_text("\n\n".join("\n".join(paragraphs[i : i + 4]) for i in range(0, 120, 4)))
    nlp = spacy.blank("en")
    write_docs([nlp.make_doc("Pump pressure was lost in flight."), nlp.make_doc("Aircraft in hangar.")], tmp_path / "a.spacy")
    (tmp_path / "b.jsonl").write_text('{"text": "The hydraulic pump was replaced.", "label": "x"}\n')
    return tmp_path


def read(path):
    return [json.loads(line)["text"] for line in path.read_text().splitlines()]


def test_neighbours_are_like_the_labelled_documents(files):
    labelled = [str(files / "a.spacy"), str(files / "b.jsonl")]
    report = pick_neighbours(labelled, [str(files / "large.txt")], files / "near", NeighbourSettings(k=10), echo=lambda _: None)
    near, control = read(files / "near" / "neighbours.jsonl"), read(files / "near" / "random.jsonl")
    assert 10 <= len(near) <= 30 and len(set(near)) == len(near) and all("pump" in text for text in near)
    assert {"cake" in text for text in control} == {True, False}
    words = [sum(len(text.split()) for text in texts) for texts in (near, control)]
    assert words[0] <= words[1] < words[0] + 25
    assert report["labelled_documents"] == 3 and report["paragraphs"] == 120
    assert report["neighbours"] == {"paragraphs": len(near), "words": words[0]}
    assert report["in_both"] == len(set(near) & set(control))
    assert json.loads((files / "near" / "neighbours.json").read_text()) == report


def test_the_text_of_evaluation_files_is_left_out(files):
    (files / "dev.jsonl").write_text(json.dumps({"text": PUMP.format(3, 21), "label": "x"}) + "\n")
    labelled, large, dev = ([str(files / name)] for name in ("b.jsonl", "large.txt", "dev.jsonl"))
    pick_neighbours(labelled, large, files / "near", NeighbourSettings(k=200), dev, echo=lambda _: None)
    texts = read(files / "near" / "neighbours.jsonl") + read(files / "near" / "random.jsonl")
    assert PUMP.format(4, 28) in texts and PUMP.format(3, 21) not in texts


def test_a_wrong_setting_and_missing_text_are_named(files):
    labelled, large = [str(files / "b.jsonl")], [str(files / "large.txt")]
    with pytest.raises(UserError, match="k = 0 is out of range"):
        pick_neighbours(labelled, large, files / "near", NeighbourSettings(k=0))
    with pytest.raises(UserError, match=r"large.txt: no text found after cleaning"):
        pick_neighbours(labelled, large, files / "near", NeighbourSettings(min_words=1000), echo=lambda _: None)
    with pytest.raises(UserError, match=r"nowhere.jsonl: no such file"):
        pick_neighbours([str(files / "nowhere.jsonl")], large, files / "near", NeighbourSettings(), echo=lambda _: None)
