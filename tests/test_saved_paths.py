"""What a saved config says: no path of the training's machine, and every setting of the pipeline as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from thinc.api import Config

from mtl.training.saving import without_local_paths

STRINGS = ["/", "//", "~", "/home/me/table.json", "C:\\data\\x", "~/x", "a/b", "/a/", "${paths.table}", ""]


def saved(config, folder):
    Config(config).to_disk(folder / "config.cfg", interpolate=False)
    without_local_paths(folder / "config.cfg")
    return Config().from_disk(folder / "config.cfg", interpolate=False)


@given(values=st.lists(st.sampled_from(STRINGS[:-2]), min_size=1, max_size=4))
def test_settings_of_components_and_tokenizer_never_change(tmp_path_factory, values):
    settings = {f"s{i}": value for i, value in enumerate(values)}
    config = {
        "nlp": {"tokenizer": {"separator": values[0]}},
        "components": {"a": {**settings, "many": values, "b": dict(settings)}},
    }
    assert saved(config, tmp_path_factory.mktemp("saved")) == config


@pytest.mark.parametrize("section", ["paths", "corpora", "initialize", "training"])
def test_paths_of_the_training_lose_their_folders_and_separators_stay(tmp_path, section):
    config = {section: {"a": "/home/me/x.spacy", "sep": "/", "deep": {"many": ["C:\\me\\y", "b/c", 3]}, "other": "text"}}
    expected = {section: {"a": "x.spacy", "sep": "/", "deep": {"many": ["y", "b/c", 3]}, "other": "text"}}
    assert saved(config, tmp_path) == expected


def test_a_path_that_a_component_refers_to_stays(tmp_path):
    config = {
        "paths": {
            "table": "/home/me/table.json",
            "root": "/home/me",
            "nested": "${paths.root}/t",
            "train": "/home/me/train.spacy",
        },
        "components": {"lookups": {"path": "${paths.table}", "other": ["${paths.nested}"]}},
        "corpora": {"train": {"path": "${paths.train}"}},
    }
    paths = saved(config, tmp_path)["paths"]
    assert paths == {**config["paths"], "train": "train.spacy"}
