"""How far domain text is from general text: the measures and the recommendation."""

import random

import pytest
from conftest import save_tiny

from mtl.adaptation.distance import DistanceSettings, distance_table, fertility, measure_distance
from mtl.encoder.pretrained.sources import load_tokenizer
from mtl.errors import UserError


def write(path, words, count, seed=0):
    """Documents of 40 of the words, some of which are frequent."""
    rng = random.Random(seed)
    weights = [1 / (1 + i) for i in range(len(words))]
    path.write_text("\n\n".join(" ".join(rng.choices(words, weights, k=40)) for _ in range(count)))
    return str(path)


def invented(letters, seed):
    rng = random.Random(seed)
    return list(dict.fromkeys("".join(rng.choices(letters, k=rng.randint(2, 5))) for _ in range(400)))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """Tiny, byte-level, so that no word is unknown; for blocks of the default size; without a masked-LM head."""
    return save_tiny("roberta", tmp_path_factory.mktemp("longer") / "encoder", max_position_embeddings=160)


@pytest.fixture
def texts(tmp_path):
    """General text, more of its kind, and text of other, longer words."""
    common = invented("aeinst", 1)
    far = [first + second for first, second in zip(invented("kqvwxz", 2), invented("bcdfgh", 3))]
    return {
        "general": write(tmp_path / "general.txt", common, 150),
        "near": write(tmp_path / "near.txt", common, 2600, seed=1),
        "far": write(tmp_path / "far.txt", far, 2600, seed=2),
        "little": write(tmp_path / "little.txt", far, 150, seed=3),
    }


@pytest.mark.parametrize("name, recommendation", [("near", "nothing"), ("far", "domain text"), ("little", "task text")])
def test_far_text_is_recommended_and_little_text_is_not(encoder, texts, name, recommendation):
    result = measure_distance(encoder, [texts[name]], [texts["general"]], DistanceSettings(words=3000), lambda _: None)
    assert result["recommendation"] == recommendation
    assert result["overlap"]["general"] > 0.6 and (result["overlap"]["domain"] < 0.1) == (name != "near")
    assert result["loss"] is None and "loss" not in result["far"]  # the tiny encoder has no masked-LM head
    table = distance_table(result)
    assert f"recommended: {recommendation}." in table and "of 2 measures" in table and "no masked-LM head" in table
    if name == "little":
        assert "6,000 words are little" in table


def test_the_loss_is_measured_if_the_encoder_has_a_head(tmp_path, texts):
    from transformers import AutoModelForMaskedLM

    folder = save_tiny("bert", tmp_path / "encoder", max_position_embeddings=160)
    AutoModelForMaskedLM.from_pretrained(folder).save_pretrained(folder)
    result = measure_distance(folder, [texts["far"]], [texts["general"]], DistanceSettings(words=2000), lambda _: None)
    assert set(result["loss"]) == {"domain", "general"} and all(loss > 0 for loss in result["loss"].values())
    assert f"{result['loss']['domain']:.2f}" in distance_table(result) and "of 3 measures" in distance_table(result)


def test_fertility_is_subwords_per_word(tiny):
    tokenizer = load_tokenizer(tiny())
    text = "Crew noted smoke, again."
    expected = len(tokenizer(text, add_special_tokens=False)["input_ids"]) / 4
    assert fertility(tokenizer, [text, text]) == pytest.approx(expected)


def test_too_little_text_and_too_small_samples_are_refused(encoder, texts, tmp_path):
    (tmp_path / "short.txt").write_text("only a few words")
    with pytest.raises(UserError, match=r"general text: 4 words are too few .* at least 2,000"):
        measure_distance(encoder, [texts["near"]], [str(tmp_path / "short.txt")], DistanceSettings(), lambda _: None)
    with pytest.raises(UserError, match=r"words = 10 is out of range"):
        measure_distance(encoder, [texts["near"]], [texts["general"]], DistanceSettings(words=10), lambda _: None)
