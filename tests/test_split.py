"""`mtl split`: nothing of one split is in another, and every label is in all of them in proportion."""

import json
from collections import Counter

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from test_check_data import rows
from typer.testing import CliRunner

from mtl.cli.app import app
from mtl.data.check.run import check_data
from mtl.data.docs import read_docs
from mtl.data.formats.reading import Reading
from mtl.data.split import Cluster, assign, split_files
from mtl.errors import UserError

VOCAB = spacy.blank("en").vocab
THREE = {"train": 0.8, "dev": 0.1, "test": 0.1}


def write(path, docs):
    path.write_text("\n".join(map(json.dumps, docs)))
    return path


def texts(path):
    return [doc.text for doc in read_docs(path, VOCAB)]


def test_every_document_is_in_one_split_and_labels_are_in_proportion(tmp_path):
    label = lambda i: "RARE" if i % 10 == 0 else "AB"[i % 2]  # noqa: E731
    file = write(tmp_path / "all.jsonl", rows(200, label=label))
    written = split_files([file], tmp_path / "out", THREE)
    parts = {name: texts(tmp_path / "out" / name / "all.spacy") for name in THREE}
    assert sorted(text for part in parts.values() for text in part) == sorted(row["text"] for row in rows(200))
    assert [len(parts[name]) for name in THREE] == [160, 20, 20]
    counts = {path.split("/")[-2]: found for path, found in written.items()}
    assert [counts[name]["categories: RARE"] for name in THREE] == [16, 2, 2]
    assert check_data({name: [tmp_path / "out" / name / "all.spacy"] for name in THREE})["findings"] == []


def test_a_seed_gives_the_same_split_again_and_another_another(tmp_path):
    file = write(tmp_path / "all.jsonl", rows(60))
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        split_files([file], tmp_path / name, THREE, seed=seed)
    first, again, other = (texts(tmp_path / name / "dev" / "all.spacy") for name in "abc")
    assert first == again and set(first) != set(other)


def test_groups_repeated_and_nearly_repeated_texts_stay_together_over_tasks(tmp_path):
    long = " ".join(f"word{i}" for i in range(60))
    near = [{"text": long.replace("word30", f"other{i}"), "label": "A"} for i in range(6)]
    grouped = [{**row, "group": f"aircraft {i // 5}"} for i, row in enumerate(rows(60))]
    categories = write(tmp_path / "categories.jsonl", grouped + near)
    entities = write(tmp_path / "entities.jsonl", [{"text": row["text"].upper(), "entities": []} for row in rows(60)])
    split_files([categories, entities], tmp_path / "out", THREE)
    where = {}
    for name in THREE:
        for task in ("categories", "entities"):
            for text in texts(tmp_path / "out" / name / f"{task}.spacy"):
                where.setdefault(text.lower(), set()).add(name)
    assert all(len(splits) == 1 for splits in where.values())
    for i in range(12):
        assert len({split for row in rows(60)[5 * i : 5 * i + 5] for split in where[row["text"].lower()]}) == 1
    assert len({split for row in near for split in where[row["text"]]}) == 1
    files = {name: [tmp_path / "out" / name] for name in THREE}
    assert not [f for f in check_data(files)["findings"] if f["level"] == "error"]


def test_a_column_of_a_table_can_be_the_group_and_check_sees_it(tmp_path):
    lines = [f"{row['text']},{row['label']},p{i // 4}" for i, row in enumerate(rows(40))]
    (tmp_path / "a.csv").write_text("text,label,patient\n" + "\n".join(lines))
    columns = {"group": "patient"}
    split_files([tmp_path / "a.csv"], tmp_path / "out", {"train": 0.5, "dev": 0.5}, reading=Reading(columns=columns))
    dev = set(texts(tmp_path / "out" / "dev" / "a.spacy"))
    assert len(dev) == 20 and all(
        len({row["text"] in dev for row in rows(40)[4 * i : 4 * i + 4]}) == 1 for i in range(10)
    )  # fmt: skip
    for name, part in (("x", lines[:22]), ("y", lines[22:])):
        (tmp_path / f"{name}.csv").write_text("text,label,patient\n" + "\n".join(part))
    result = check_data({"train": [tmp_path / "x.csv"], "dev": [tmp_path / "y.csv"]}, reading=Reading(columns=columns))
    (finding,) = [f for f in result["findings"] if f["kind"] == "group in two splits"]
    assert finding["count"] == 2 and "of the group 'p5'" in finding["places"][0]


def test_folds_cover_everything_once(tmp_path):
    file = write(tmp_path / "all.jsonl", rows(50))
    split_files([file], tmp_path / "out", {}, folds=5)
    devs = [text for i in range(5) for text in texts(tmp_path / "out" / f"fold{i}" / "dev" / "all.spacy")]
    assert sorted(devs) == sorted(row["text"] for row in rows(50))
    for i in range(5):
        train, dev = (set(texts(tmp_path / "out" / f"fold{i}" / name / "all.spacy")) for name in ("train", "dev"))
        assert len(train) == 40 and len(dev) == 10 and not train & dev


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3), min_size=3, max_size=60), st.integers(0, 5))
def test_clusters_are_spread_whole_and_by_size(labels, seed):
    clusters, start = [], 0
    for own in labels:
        clusters.append(Cluster(list(range(start, start + len(own))), Counter(("task", label) for label in own)))
        start += len(own)
    assigned = assign(clusters, THREE, seed)
    assert sorted(number for numbers in assigned.values() for number in numbers) == list(range(start))
    for cluster in clusters:
        assert sum(set(cluster.members) <= set(numbers) for numbers in assigned.values()) == 1


@pytest.mark.parametrize(
    "options, message",
    [
        (["--fractions", "train=0.8,dev=0.1"], "sum to 1"),
        (["--fractions", "train=most"], "give a name and a number for each split"),
        (["--fractions", "../x=1"], "give a name and a number for each split"),
        (["--fractions", "train=0.99,dev=0.01"], "dev would be empty"),
        (["--folds", "1"], "--folds = 1"),
        (["--folds", "9"], "5 documents are 5 clusters that must stay together, too few for 9 splits"),
    ],
)
def test_what_cannot_be_is_named(tmp_path, options, message):
    file = write(tmp_path / "all.jsonl", rows(5))
    with pytest.raises(UserError, match=message):
        app(["split", str(file), "--out", str(tmp_path / "out"), *options], standalone_mode=False)
    assert not (tmp_path / "out").exists()


def test_the_command_shows_what_each_split_has(tmp_path):
    file = write(tmp_path / "all.jsonl", rows(50))
    result = CliRunner().invoke(app, ["split", str(file), "--out", str(tmp_path / "out")], catch_exceptions=False)
    assert "train/all.spacy" in result.output and "20 categories: A" in result.output and "5 documents" in result.output
