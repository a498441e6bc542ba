"""The questions that spaCy's tests ask of its own components, asked of every task.

`ANSWERS` is the table: for each test in those files of spaCy the test here, or elsewhere, that asks the same, or why it does not
apply. A test of the table itself finds those that a new spaCy adds.
"""

import ast
import gc
import json
from pathlib import Path

import pytest
import spacy
import torch
from conftest import HEADS, ROOT, make_nlp, overfit, sample_examples
from spacy.lang.en import English
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import load_model_from_config
from thinc.api import Config

from mtl.errors import UserError

ALL = list(HEADS)
LABELLED = [head for head in ALL if head not in ("qa", "regressor")]
TEXT = "The pump failed in Oslo."
STOCK = "does not apply: "  # the rest of the answer is the reason

ANSWERS = {
    "pipeline/test_textcat": {
        "test_issue3611": "test_components.py::test_overfitting_then_saving_gives_the_same_predictions",
        "test_issue4030": "test_components.py::test_overfitting_then_saving_gives_the_same_predictions",
        "test_issue5551": "test_the_same_seed_gives_the_same_weights",
        "test_issue6908": "test_the_labels_may_be_given",
        "test_issue7019": "test_scores_of_documents_without_gold",
        "test_issue9904": "test_the_labels_may_be_given",
        "test_simple_train": "test_components.py::test_overfitting_then_saving_gives_the_same_predictions",
        "test_textcat_learns_multilabel": "test_components.py::test_multilabel_categories_learn_each_by_itself",
        "test_label_types": "test_a_label_is_a_text",
        "test_invalid_label_value": "test_components.py::test_several_categories_for_an_exclusive_head_are_an_error",
        "test_no_label": "test_no_gold_at_all_is_an_error",
        "test_implicit_label": "test_labels_come_from_the_examples",
        "test_no_resize": STOCK + "every head of ours may get another label",
        "test_resize": "test_another_label_after_training",
        "test_resize_same_results": "test_another_label_after_training",
        "test_error_with_multi_labels": "test_components.py::test_several_categories_for_an_exclusive_head_are_an_error",
        "test_tok2vec_lazy_init": "test_sourcing.py::test_every_head_moves_the_encoder_in_a_sourced_pipeline",
        "test_initialize_examples": "test_initialize_wants_a_function_that_gives_examples",
        "test_overfitting_IO": "test_components.py::test_overfitting_then_saving_gives_the_same_predictions",
        "test_overfitting_IO_multi": "test_components.py::test_overfitting_then_saving_gives_the_same_predictions",
        "test_textcat_configs": STOCK + "these are architectures of spaCy",
        "test_positive_class": STOCK + "there is no positive label",
        "test_positive_class_not_present": STOCK + "there is no positive label",
        "test_positive_class_not_binary": STOCK + "there is no positive label",
        "test_textcat_evaluation": "test_scores_of_documents_without_gold",
        "test_textcat_eval_missing": "test_scores_of_documents_without_gold",
        "test_textcat_loss": "test_components.py::test_incomplete_annotations_are_never_negative",
        "test_textcat_multilabel_threshold": "test_thresholds.py::test_scores_are_cut_at_the_threshold_of_each_label",
        "test_textcat_multi_threshold": "test_thresholds.py::test_a_rare_category_is_found_at_its_own_threshold",
        "test_textcat_legacy_scorers": "test_thresholds.py::test_spacys_own_scorers_score_our_categories",
    },
    "pipeline/test_spancat": {
        "test_no_label": "test_no_gold_at_all_is_an_error",
        "test_no_resize": STOCK + "every head of ours may get another label",
        "test_implicit_labels": "test_labels_come_from_the_examples",
        "test_explicit_labels": "test_the_labels_may_be_given",
        "test_doc_gc": "test_spans_outlive_the_pipeline",
        "test_make_spangroup_multilabel": STOCK + "spans come from other components",
        "test_make_spangroup_singlelabel": STOCK + "spans come from other components",
        "test_make_spangroup_negative_label": STOCK + "spans come from other components",
        "test_ngram_suggester": STOCK + "there is no suggester",
        "test_ngram_sizes": STOCK + "there is no suggester",
        "test_preset_spans_suggester": STOCK + "there is no suggester",
        "test_overfitting_IO": "test_components.py::test_overfitting_then_saving_gives_the_same_predictions",
        "test_overfitting_IO_overlapping": STOCK + "spans come from other components",
        "test_zero_suggestions": "test_empty_documents",
        "test_set_candidates": STOCK + "there is no suggester",
        "test_spancat_multiprocessing": "test_components.py::test_processes_give_exactly_the_single_process_results",
    },
    "pipeline/test_tok2vec": {
        "test_empty_doc": "test_empty_documents",
        "test_tok2vec_batch_sizes": "test_components.py::test_pipe_equals_call",
        "test_tok2vec_configs": STOCK + "these are architectures of spaCy",
        "test_init_tok2vec": STOCK + "weights come from a loader",
        "test_tok2vec_listener": "test_sourcing.py::test_every_head_moves_the_encoder_in_a_sourced_pipeline",
        "test_tok2vec_listener_callback": "test_sourcing.py::test_every_head_moves_the_encoder_in_a_sourced_pipeline",
        "test_tok2vec_listener_overfitting": "test_components.py::test_overfitting_then_saving_gives_the_same_predictions",
        "test_tok2vec_frozen_not_annotating": "test_a_component_that_is_left_out_of_the_update_keeps_its_weights",
        "test_tok2vec_frozen_overfitting": "test_a_component_that_is_left_out_of_the_update_keeps_its_weights",
        "test_replace_listeners": "test_sourcing.py::test_replacing_listeners_is_refused_at_the_call",
        "test_replace_listeners_from_config": "test_sourcing.py::test_replacing_listeners_in_a_config_is_refused_too",
        "test_tok2vec_listeners_textcat": "test_components.py::test_disabled_heads_and_a_disabled_transformer",
        "test_tok2vec_listener_source_link_name": "test_sourcing.py::test_every_head_moves_the_encoder_in_a_sourced_pipeline",
        "test_tok2vec_listener_source_replace_listeners": "test_sourcing.py::test_replacing_listeners_in_a_config_is_refused_too",
    },
    "pipeline/test_pipe_methods": {
        "test_issue1506": STOCK + "garbage collection of the string store",
        "test_issue1654": STOCK + "positions in a pipeline are spaCy's own",
        "test_issue3880": "test_empty_documents",
        "test_issue5082": STOCK + "of the entity ruler",
        "test_issue5458": STOCK + "of noun chunks",
        "test_multiple_predictions": STOCK + "one prediction for several components of spaCy",
        "test_add_pipe_no_name": "test_a_head_is_renamed_disabled_removed_and_replaced",
        "test_add_pipe_duplicate_name": STOCK + "spaCy's own check",
        "test_add_pipe_first": STOCK + "positions in a pipeline are spaCy's own",
        "test_add_pipe_last": STOCK + "positions in a pipeline are spaCy's own",
        "test_cant_add_pipe_first_and_last": STOCK + "spaCy's own check",
        "test_get_pipe": "test_a_head_is_renamed_disabled_removed_and_replaced",
        "test_replace_pipe": "test_a_head_is_renamed_disabled_removed_and_replaced",
        "test_replace_last_pipe": "test_a_head_is_renamed_disabled_removed_and_replaced",
        "test_replace_pipe_config": "test_a_head_is_renamed_disabled_removed_and_replaced",
        "test_rename_pipe": "test_a_head_is_renamed_disabled_removed_and_replaced",
        "test_remove_pipe": "test_a_head_is_renamed_disabled_removed_and_replaced",
        "test_disable_pipes_method": "test_a_head_is_renamed_disabled_removed_and_replaced",
        "test_enable_pipes_method": "test_a_head_is_renamed_disabled_removed_and_replaced",
        "test_disable_pipes_context": "test_a_head_is_renamed_disabled_removed_and_replaced",
        "test_disable_pipes_context_restore": "test_a_head_is_renamed_disabled_removed_and_replaced",
        "test_select_pipes_list_arg": STOCK + "spaCy's own arguments",
        "test_select_pipes_errors": STOCK + "spaCy's own arguments",
        "test_add_lots_of_pipes": STOCK + "spaCy's own",
        "test_raise_for_invalid_components": STOCK + "spaCy's own check",
        "test_pipe_base_class_add_label": "test_a_label_is_a_text",
        "test_pipe_labels": "test_label_data_makes_the_same_head",
        "test_add_pipe_before_after": STOCK + "positions in a pipeline are spaCy's own",
        "test_disable_enable_pipes": "test_a_head_is_renamed_disabled_removed_and_replaced",
        "test_pipe_methods_frozen": STOCK + "spaCy's own",
        "test_pipe_label_data_exports_labels": "test_label_data_makes_the_same_head",
        "test_pipe_label_data_no_labels": "test_label_data_makes_the_same_head",
        "test_pipe_methods_initialize": "test_an_argument_of_initialize_that_does_not_exist_is_named",
        "test_update_with_annotates": "test_update_annotates_on_request",
        "test_enable_disable_conflict_with_config": STOCK + "spaCy's own arguments",
        "test_load_disable_enable": "test_what_is_disabled_or_excluded_at_load",
    },
    "serialize/test_serialize_pipeline": {
        "test_issue3456": "test_an_empty_document_is_no_error_before_training",
        "test_issue_3526_1": STOCK + "of the entity ruler",
        "test_issue_3526_2": STOCK + "of the entity ruler",
        "test_issue_3526_3": STOCK + "of the entity ruler",
        "test_issue_3526_4": STOCK + "of the entity ruler",
        "test_issue4042": STOCK + "of the entity ruler before a tagger of spaCy",
        "test_issue4042_bug2": "test_another_label_after_training",
        "test_issue4725_1": STOCK + "of sizes in models of spaCy",
        "test_serialize_parser_roundtrip_bytes": "test_bytes_and_disk_of_a_head_alone",
        "test_serialize_parser_strings": "test_labels_are_there_without_the_strings",
        "test_serialize_parser_roundtrip_disk": "test_bytes_and_disk_of_a_head_alone",
        "test_to_from_bytes": "test_bytes_and_disk_of_a_head_alone",
        "test_serialize_tagger_roundtrip_bytes": "test_bytes_and_disk_of_a_head_alone",
        "test_serialize_tagger_roundtrip_disk": "test_bytes_and_disk_of_a_head_alone",
        "test_serialize_tagger_strings": "test_labels_are_there_without_the_strings",
        "test_serialize_textcat_empty": "test_a_head_without_weights_is_saved",
        "test_serialize_pipe_exclude": "test_parts_can_be_left_out_of_what_is_saved",
        "test_serialize_sentencerecognizer": "test_bytes_and_disk_of_a_head_alone",
        "test_serialize_pipeline_disable_enable": "test_what_is_disabled_or_excluded_at_load",
        "test_serialize_custom_trainable_pipe": "test_bytes_and_disk_of_a_head_alone",
        "test_load_without_strings": "test_labels_are_there_without_the_strings",
    },
    "serialize/test_serialize_language": {
        "test_issue2482": "test_a_head_without_weights_is_saved",
        "test_issue6950": "test_components.py::test_a_saved_pipeline_goes_on_learning",
        "test_serialize_language_meta_disk": STOCK + "of the meta, which we do not change",
        "test_serialize_with_custom_tokenizer": "test_single_head.py::test_a_head_can_be_added_and_removed",
        "test_serialize_language_exclude": "test_what_is_disabled_or_excluded_at_load",
    },
    "serialize/test_serialize_config": {
        "test_issue8190": "test_the_config_makes_the_same_pipeline",
        "test_create_nlp_from_config": "test_the_config_makes_the_same_pipeline",
        "test_create_nlp_from_pretraining_config": STOCK + "mtl adapt has no section of the config",
        "test_create_nlp_from_config_multiple_instances": "test_the_config_makes_the_same_pipeline",
        "test_serialize_nlp": "test_components.py::test_overfitting_then_saving_gives_the_same_predictions",
        "test_serialize_custom_nlp": STOCK + "of a subclass of Language",
        "test_serialize_parser": STOCK + "of the parser",
        "test_config_nlp_roundtrip": "test_the_config_makes_the_same_pipeline",
        "test_config_nlp_roundtrip_bytes_disk": "test_the_config_makes_the_same_pipeline",
        "test_serialize_config_language_specific": STOCK + "of factories of a language",
        "test_serialize_config_missing_pipes": STOCK + "spaCy's own check",
        "test_config_overrides": "test_thresholds.py::test_a_rare_category_is_found_at_its_own_threshold",
        "test_config_overrides_registered_functions": STOCK + "spaCy's own",
        "test_config_interpolation": "test_spacy_commands.py::test_create_optimizer_needs_no_interpolation",
        "test_config_optional_sections": STOCK + "spaCy's own",
        "test_config_auto_fill_extra_fields": "test_an_unknown_setting_of_a_head_is_named",
        "test_config_validate_literal": STOCK + "spaCy's own",
        "test_config_only_resolve_relevant_blocks": STOCK + "spaCy's own",
        "test_hyphen_in_config": STOCK + "spaCy's own",
    },
}  # fmt: skip


def names_in(file: Path):
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)
            and node.name.startswith("test_")}  # fmt: skip


@pytest.mark.parametrize("file", ANSWERS)
def test_the_table_is_complete_and_true(file):
    asked = Path(spacy.__file__).parent / "tests" / f"{file}.py"
    if not asked.exists():
        pytest.skip("this spaCy was installed without its tests")
    assert names_in(asked) == set(ANSWERS[file])
    for answer in ANSWERS[file].values():
        if not answer.startswith(STOCK):
            name, _, function = answer.rpartition("::")
            assert function in names_in(ROOT / "tests" / (name or Path(__file__).name)), answer


@pytest.fixture(scope="module")
def trained(tiny):
    nlp = make_nlp(tiny())
    overfit(nlp, steps=10)
    return nlp


def shown(nlp, head, text=TEXT):
    """What a head predicts, as lines."""
    doc = nlp.make_doc(text)
    doc._.questions = ["What failed?"]
    task = nlp.get_pipe(head).task
    return task.show(nlp(doc), head)


def weights_of(pipe):
    return {name: parameter.detach().clone() for name, (parameter, _) in pipe.parameters().items()}


@pytest.mark.parametrize("head", ALL)
def test_initialize_wants_a_function_that_gives_examples(head, tiny):
    nlp = make_nlp(tiny(), heads=(head,))
    for wrong in (sample_examples(nlp), lambda: None, lambda: sample_examples(nlp)[0], lambda: [1], lambda: [(TEXT, {})]):
        with pytest.raises((TypeError, ValueError)):
            nlp.initialize(wrong)
    nlp.initialize(lambda: sample_examples(nlp))


@pytest.mark.parametrize("head", ALL)
def test_no_gold_at_all_is_an_error(head, tiny):
    with pytest.raises(UserError, match=f"the head '{head}' has no"):
        make_nlp(tiny(), heads=(head,), examples=lambda nlp: [Example(nlp.make_doc("a"), nlp.make_doc("a"))])


@pytest.mark.parametrize("head", LABELLED)
def test_labels_come_from_the_examples(head, trained):
    component = trained.get_pipe(head)
    gold = {label for example in sample_examples(trained) for label in component.labels_of(example.reference)}
    assert set(component.labels) == gold and trained.pipe_labels[head] == list(component.labels)


@pytest.mark.parametrize("head", LABELLED)
def test_the_labels_may_be_given(head, tiny):
    """They are then not looked for; their order stays."""
    labels = ["Z", "A", "PART"] if head != "tagger" else ["N", "D", "Z"]
    nlp = make_nlp(tiny(), heads=(head,))
    fresh = make_nlp(tiny(), heads=())
    component = fresh.add_pipe(HEADS[head], name=head)
    fresh.config["initialize"]["components"][head] = {"labels": labels}
    fresh.initialize(lambda: [Example(nlp.make_doc("a"), nlp.make_doc("a"))])
    assert list(component.labels) == labels
    shown(fresh, head)


@pytest.mark.parametrize("head", ALL)
def test_label_data_makes_the_same_head(head, trained, tiny):
    data = trained.get_pipe(head).label_data
    if head not in LABELLED:
        assert not data
        return
    assert json.loads(json.dumps(data)) == data
    fresh = make_nlp(tiny(), heads=())
    component = fresh.add_pipe(HEADS[head], name=head)
    component.initialize(lambda: sample_examples(fresh), nlp=fresh, labels=data)
    assert component.labels == trained.get_pipe(head).labels and component.label_data == data


@pytest.mark.parametrize("head", ALL)
def test_a_label_is_a_text(head, trained):
    for wrong in (9, None, "", ["A"]):
        with pytest.raises(ValueError):
            trained.get_pipe(head).add_label(wrong)


@pytest.mark.parametrize("head", LABELLED)
def test_another_label_after_training(head, tiny):
    """What is known of the others stays, and training goes on."""
    nlp = make_nlp(tiny(), heads=(head,), **({"textcat": {"exclusive": False}} if head == "textcat" else {}))
    overfit(nlp, steps=30)
    component = nlp.get_pipe(head)
    before, known = shown(nlp, head), component.labels
    label = "PROPN" if component.cfg.get("attr") == "POS" else "NEW"
    assert component.add_label(label) == 1 and component.add_label(label) == 0
    assert component.labels == (*known, label)
    after = [line for line in shown(nlp, head) if label not in line]
    assert after == before
    overfit(nlp, steps=2)


@pytest.mark.parametrize("head", ALL)
def test_the_same_seed_gives_the_same_weights(head, tiny):
    first, second = ({} for _ in range(2))
    for weights in (first, second):
        nlp = make_nlp(tiny(), heads=(head,))
        torch.manual_seed(3)
        overfit(nlp, steps=3)
        weights.update(weights_of(nlp.get_pipe("transformer")))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("head", ALL)
def test_empty_documents(head, tiny):
    nlp = make_nlp(tiny(), heads=(head,))
    for texts in ([""], ["", ""], ["", TEXT, ""], ["\n", " \t "]):
        assert [doc.text for doc in nlp.pipe(texts)] == texts
        nlp.update([Example(nlp.make_doc(text), nlp.make_doc(text)) for text in texts], losses={})
    assert list(nlp.pipe([])) == []
    nlp.update([], losses={})
    assert all(torch.isfinite(weight).all() for weight in weights_of(nlp.get_pipe("transformer")).values())


@pytest.mark.parametrize("head", ALL)
def test_an_empty_document_is_no_error_before_training(head, tiny):
    nlp = make_nlp(tiny(), heads=(head,))
    assert not len(nlp("")) and len(list(nlp.pipe([TEXT] * 3))) == 3


@pytest.mark.parametrize("head", ALL)
def test_scores_of_documents_without_gold(head, trained):
    """They count neither for nor against the head."""
    gold = sample_examples(trained)[:2]
    bare = [Example(trained.make_doc("Nothing is said of this."), trained.make_doc("Nothing is said of this."))]
    with trained.select_pipes(enable=["transformer", "ner", head]):
        keys = trained.get_pipe(head).score_names()
        with_gold, mixed = trained.evaluate(gold), trained.evaluate([*gold, *bare])
        alone = trained.evaluate(bare)
    assert {key: with_gold.get(key) for key in keys} == pytest.approx({key: mixed.get(key) for key in keys})
    assert all(alone.get(key) is None for key in keys)


def test_spans_outlive_the_pipeline(tiny):
    """Those of a Doc that is kept."""
    nlp = make_nlp(tiny())
    overfit(nlp, steps=30)
    doc = nlp.make_doc(TEXT)
    doc._.questions = ["What failed?"]
    docs = list(nlp.pipe([doc]))
    del nlp
    gc.collect()
    for group in docs[0].spans.values():
        assert [span.text for span in group] == [docs[0][span.start : span.end].text for span in group]
    assert [ent.label_ for ent in docs[0].ents] and docs[0].cats


@pytest.mark.parametrize("frozen", ["transformer", *ALL])
def test_a_component_that_is_left_out_of_the_update_keeps_its_weights(frozen, tiny):
    """All others learn, those of a frozen encoder as well."""
    nlp = make_nlp(tiny())
    own = {name: {k.partition(".")[2]: w for k, w in weights_of(nlp.get_pipe("transformer")).items() if k.startswith(f"{name}.")}
           for name in nlp.pipe_names}  # fmt: skip
    optimizer = nlp.create_optimizer()
    for _ in range(3):
        nlp.update(sample_examples(nlp), sgd=optimizer, exclude=[frozen], losses={})
    after = weights_of(nlp.get_pipe("transformer"))
    for name, weights in own.items():
        moved = any(not torch.equal(weight, after[f"{name}.{key}"]) for key, weight in weights.items())
        assert moved == (name != frozen), name


@pytest.mark.parametrize("head", ALL)
def test_update_annotates_on_request(head, tiny):
    """`annotates`: the predicted Docs then carry what the head predicts, for components behind it."""
    nlp = make_nlp(tiny(), heads=("ner", head) if head == "span_classifier" else (head,))
    overfit(nlp, steps=20)
    examples = sample_examples(nlp)
    for example in examples:
        nlp.get_pipe(head).task.copy_inputs(example.reference, example.predicted)
    seen = []

    @Language.component("spy")
    def spy(doc):
        return doc

    class Spy:
        """What a component behind the head is given to learn from."""

        def __call__(self, doc):
            return doc

        def update(self, examples, **kwargs):
            seen.extend(task.show(example.predicted, head) for example in examples)

    task = nlp.get_pipe(head).task
    nlp.add_pipe("spy", last=True)
    nlp._components[-1] = ("spy", Spy())
    nlp.update(examples, annotates=[name for name in nlp.pipe_names if name != "spy"], losses={})
    assert len(seen) == len(examples) and any(seen)


@pytest.mark.parametrize("head", ALL)
def test_a_head_is_renamed_disabled_removed_and_replaced(head, tiny):
    nlp = make_nlp(tiny())
    overfit(nlp, steps=5)
    before = shown(nlp, head)
    with nlp.select_pipes(disable=[head]):
        assert head not in nlp.pipe_names and nlp(TEXT) is not None
    nlp.disable_pipe(head)
    nlp.enable_pipe(head)
    assert shown(nlp, head) == before
    if head != "ner":  # the name is part of where it writes probabilities
        nlp.rename_pipe(head, "renamed")
        assert nlp.get_pipe("renamed").name == "renamed" and shown(nlp, "renamed") == before
        overfit(nlp, steps=1)
        nlp.rename_pipe("renamed", head)
    name, component = nlp.remove_pipe(head)
    assert name == head and head not in nlp.pipe_names and nlp(TEXT) is not None and component.name == head
    nlp.add_pipe(HEADS[head], name=head)
    nlp.get_pipe(head).initialize(lambda: sample_examples(nlp), nlp=nlp)
    replaced = nlp.replace_pipe(head, HEADS[head])
    replaced.initialize(lambda: sample_examples(nlp), nlp=nlp)
    overfit(nlp, steps=2)
    shown(nlp, head)


@pytest.mark.parametrize("head", ALL)
def test_an_argument_of_initialize_that_does_not_exist_is_named(head, tiny):
    nlp = make_nlp(tiny(), heads=(head,))
    nlp.config["initialize"]["components"][head] = {"lables": ["A"]}
    with pytest.raises(ValueError, match="lables"):
        nlp.initialize(lambda: sample_examples(nlp))


@pytest.mark.parametrize("head", ALL)
def test_an_unknown_setting_of_a_head_is_named(head, tiny):
    with pytest.raises(ValueError, match="treshold"):
        spacy.blank("en").add_pipe(HEADS[head], config={"treshold": 1.0})


@pytest.mark.parametrize("head", ALL)
def test_bytes_and_disk_of_a_head_alone(head, trained, tiny, tmp_path):
    source = trained.get_pipe(head)
    source.to_disk(tmp_path / "head")
    for load in (lambda pipe: pipe.from_bytes(source.to_bytes()), lambda pipe: pipe.from_disk(tmp_path / "head"),
                 lambda pipe: pipe.from_bytes(source.to_bytes(exclude=["vocab"]))):  # fmt: skip
        other = make_nlp(tiny())
        load(other.get_pipe(head))
        assert other.get_pipe(head).labels == source.labels
        expected = source.parameters()
        for name, (weight, _) in other.get_pipe(head).parameters().items():
            assert torch.equal(weight, expected[name][0]), name


@pytest.mark.parametrize("head", ALL)
def test_labels_are_there_without_the_strings(head, trained, tmp_path):
    trained.to_disk(tmp_path / "pipeline", exclude=["vocab"])
    again = spacy.load(tmp_path / "pipeline", exclude=["vocab"])
    assert again.get_pipe(head).labels == trained.get_pipe(head).labels
    assert shown(again, head) == shown(trained, head)


@pytest.mark.parametrize("name", ["transformer", *ALL])
def test_a_head_without_weights_is_saved(name, tmp_path):
    """An untrained pipeline is saved and loaded like any other, and says that it has no weights when it is used."""
    nlp = spacy.blank("en")
    nlp.add_pipe("mtl_transformer", name="transformer")
    nlp.add_pipe("mtl_qa", name="any")  # for `doc._.questions`
    nlp.remove_pipe("any")
    component = nlp.get_pipe("transformer") if name == "transformer" else nlp.add_pipe(HEADS[name], name=name)
    component.from_bytes(component.to_bytes(exclude=["vocab"]))
    nlp.to_disk(tmp_path / "pipeline")
    again = spacy.load(tmp_path / "pipeline")
    assert again.pipe_names == nlp.pipe_names and English.from_config(nlp.config).from_bytes(nlp.to_bytes()).pipe_names
    doc = again.make_doc(TEXT)
    doc._.questions = ["What failed?"]  # without one, there is nothing to answer
    with pytest.raises(UserError, match="has no weights yet"):
        again(doc)


@pytest.mark.parametrize("head", ALL)
def test_parts_can_be_left_out_of_what_is_saved(head, trained, tmp_path):
    component = trained.get_pipe(head)
    component.to_disk(tmp_path / "head", exclude=["model"])
    assert [file.name for file in (tmp_path / "head").iterdir()] == ["cfg"]
    assert len(component.to_bytes(exclude=["model"])) < len(component.to_bytes())


@pytest.mark.parametrize("head", ALL)
def test_what_is_disabled_or_excluded_at_load(head, trained, tmp_path):
    trained.to_disk(tmp_path / "pipeline")
    others = [name for name in trained.pipe_names if name != head]
    disabled = spacy.load(tmp_path / "pipeline", disable=[head])
    assert disabled.pipe_names == others and head in disabled.component_names and disabled(TEXT) is not None
    disabled.enable_pipe(head)
    assert shown(disabled, head) == shown(trained, head)
    assert spacy.load(tmp_path / "pipeline", exclude=[head]).component_names == others
    with trained.select_pipes(disable=[head]):
        trained.to_disk(tmp_path / "without")
    again = spacy.load(tmp_path / "without")
    assert again.pipe_names == others and again.disabled == [head]
    left_out = make_left_out(trained, head, tmp_path)
    assert head not in left_out.component_names


def make_left_out(nlp, head, folder):
    nlp.to_disk(folder / "excluded", exclude=[head])
    return spacy.load(folder / "excluded", exclude=[head])


def test_the_config_makes_the_same_pipeline(trained):
    text = trained.config.to_str()
    for _ in range(2):
        again = load_model_from_config(Config().from_str(text, interpolate=False))
        assert again.pipe_names == trained.pipe_names and again.config.to_str() == text
        assert again.get_pipe("transformer") is not trained.get_pipe("transformer")
    assert isinstance(trained(TEXT), Doc)
