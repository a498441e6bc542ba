"""Names that users choose: as keys of settings, and as attributes of Docs and Spans."""

import pytest
import spacy
from conftest import make_nlp, sample_examples
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc, Span
from thinc.api import Config

from mtl.errors import UserError
from mtl.sampling.strategies import dev_gap_sampling, epoch_range, epochs_per_task, pause_at_peak, temperature_sampling
from mtl.settings import by_name
from mtl.training.optimizer import adamw
from mtl.weighting.static import static_weighting

AWKWARD = ["B:x", "a=b", "a.b:c", " blank", "#1", ";x", "a\nb", ""]


@given(st.text(max_size=8))
def test_a_key_is_accepted_only_if_a_saved_config_has_it_again(name):
    try:
        accepted = by_name("setting", {name: 2.0})
    except UserError as error:
        assert "as a list of pairs" in str(error)
        if "$" not in name:
            assert by_name("setting", [[name, 2.0]]) == {name: 2.0}
        return
    config = {"components": {"textcat": {"factory": "mtl_textcat", "class_weights": accepted}}}
    assert Config().from_str(Config(config).to_str()) == config


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize(
    "make",
    [
        lambda value: static_weighting(weights=value),
        lambda value: static_weighting(anneal=value),
        lambda value: epochs_per_task(value),
        lambda value: dev_gap_sampling([["a", "ents_f"]], value),
        lambda value: pause_at_peak(temperature_sampling(), value),
        lambda value: epoch_range(temperature_sampling(), start=value),
        lambda value: epoch_range(temperature_sampling(), stop=value),
        lambda value: adamw(lr_multipliers=value),
    ],
)
def test_every_setting_with_free_names_takes_pairs_and_refuses_keys_that_would_not_load(make, name):
    make([[name, 1]])
    with pytest.raises(UserError, match="cannot be a key in a config file"):
        make({name: 1})


@pytest.mark.parametrize("name", AWKWARD)
def test_class_weights_of_any_label_survive_saving(tiny, tmp_path, name):
    if not name.strip():
        return

    def examples(nlp):
        made = sample_examples(nlp)
        for example in made:
            if example.reference.cats:
                example.reference.cats = {"A": example.reference.cats["A"], name: example.reference.cats["B"]}
        return made

    nlp = make_nlp(tiny(), heads=("textcat",), examples=examples, textcat={"class_weights": [[name, 2.0]]})
    nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    assert loaded.get_pipe("textcat").cfg["class_weights"] == {name: 2.0} and name in loaded("The pump.").cats


@pytest.mark.parametrize(
    "pairs, problem",
    [([["A", 1.0], ["A", 2.0]], "given twice"), ([["A"]], "pairs of a name"), ([1], "pairs"), ([["${x}", 1.0]], "another name")],
)
def test_pairs_of_another_form_are_refused(pairs, problem):
    with pytest.raises(UserError, match=f"setting: .*{problem}"):
        by_name("setting", pairs)


@pytest.mark.parametrize("name", ["${paths.x}", "a\nb"])
def test_a_component_name_that_cannot_be_saved_is_refused_when_it_is_added(name):
    with pytest.raises(UserError, match="component name"):
        spacy.blank("en").add_pipe("mtl_textcat", name=name)


EXTENSIONS = [
    (Doc, "questions", "mtl_qa", {}),
    (Doc, "answers", "mtl_qa", {}),
    (Doc, "ask", "mtl_qa", {}),
    (Doc, "taken", "mtl_regressor", {"key": "taken"}),
    (Span, "taken", "mtl_span_classifier", {"key": "taken"}),
]


@pytest.mark.parametrize("owner, name, factory, settings", EXTENSIONS)
def test_an_attribute_with_another_meaning_is_named_when_the_pipeline_is_made(owner, name, factory, settings):
    before = owner.get_extension(name) if owner.has_extension(name) else None
    owner.set_extension(name, getter=lambda holder: 3, force=True)
    try:
        with pytest.raises(UserError, match=rf"_\.{name} is registered by other code.*remove_extension\('{name}'\)"):
            spacy.blank("en").add_pipe(factory, config=settings)
        owner.remove_extension(name)
        for _ in range(2):  # the same meaning twice is no conflict
            spacy.blank("en").add_pipe(factory, config=settings)
    finally:
        owner.remove_extension(name)
        if before is not None:
            _, method, getter, _ = before
            owner.set_extension(name, **({"method": method} if method else {"getter": getter} if getter else {"default": None}))
