"""spaCy's own commands and calls on our config as it is, and a run whose length is said once."""

import contextlib
import io
import itertools
from types import SimpleNamespace

import pytest
import spacy
from conftest import ROOT, sample_examples, save_tiny
from spacy.cli.debug_config import debug_config
from spacy.cli.debug_data import debug_data
from spacy.cli.debug_model import debug_model
from spacy.schemas import ConfigSchemaTraining
from spacy.util import load_config, load_model_from_config, registry
from thinc.api import Adam

from mtl.data.docs import write_docs
from mtl.errors import UserError
from mtl.optimization import set_run_length, warmup_cosine, warmup_linear
from mtl.training.initialize import init_pipeline
from mtl.training.optimizer import adamw

SAMPLE = ROOT / "configs" / "sample.cfg"
PEAK = 0.00015


@pytest.fixture(scope="module")
def overrides(tmp_path_factory):
    """The paths that the sample's config needs, with few documents and a tiny encoder."""
    folder = tmp_path_factory.mktemp("sample")
    docs = [example.reference for example in sample_examples(spacy.blank("en"))]
    write_docs(docs, folder / "train.spacy")
    save_tiny("bert", folder / "encoder", max_position_embeddings=256)
    return {
        "paths.train": str(folder / "train.spacy"), "paths.dev": str(folder / "train.spacy"),
        "paths.encoder": str(folder / "encoder"), "components.transformer.model.device": "cpu",
        "training.logger.weighting_log": None,
    }  # fmt: skip


def sample_nlp(overrides, **changes):
    return load_model_from_config(load_config(SAMPLE, overrides={**overrides, **changes}), auto_fill=True)


def test_debug_config(overrides):
    with contextlib.redirect_stdout(io.StringIO()) as output:
        debug_config(SAMPLE, overrides=overrides)
    assert "Config is valid" in output.getvalue()


def test_debug_data(overrides):
    with contextlib.redirect_stdout(io.StringIO()) as output, pytest.raises(SystemExit):  # 8 documents are too few for spaCy
        debug_data(SAMPLE, config_overrides=overrides, silent=False)
    assert "Pipeline can be initialized with data" in output.getvalue() and "8 training docs" in output.getvalue()


@pytest.mark.parametrize("component", ["transformer", "textcat", "ner", "qa"])
def test_debug_model(component, overrides):
    """As the command does, which takes no function to call it by."""
    raw = load_config(SAMPLE, overrides=overrides, interpolate=False)
    nlp = load_model_from_config(raw)
    config = nlp.config.interpolate()
    training = registry.resolve(config["training"], schema=ConfigSchemaTraining)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        debug_model(config, training, nlp, nlp.get_pipe(component), print_settings={"print_prediction": True})
    assert "model looks good" in output.getvalue()


def test_the_model_of_a_component_predicts_what_the_component_does(overrides):
    nlp = sample_nlp(overrides)
    nlp.initialize(lambda: sample_examples(nlp))
    docs = [nlp.make_doc("The pump failed in Oslo.")]
    textcat = nlp.get_pipe("textcat")
    assert textcat.model.predict(docs)[0] == pytest.approx(textcat.predict(docs)[0])
    copy = textcat.model.copy()
    assert copy is not textcat.model


def test_a_run_without_schedule_length_follows_max_steps(overrides):
    nlp = sample_nlp(overrides, **{"training.max_steps": 10})
    optimizer = nlp.initialize(lambda: sample_examples(nlp))
    rates = []
    for _ in range(10):
        nlp.update(sample_examples(nlp), sgd=optimizer)
        rates.append(optimizer.learn_rate)
        optimizer.step_schedules()
    assert rates == pytest.approx(list(itertools.islice(warmup_linear(PEAK, 10, 0.1), 10)))


def test_create_optimizer_needs_no_interpolation(overrides):
    assert sample_nlp(overrides).create_optimizer().learn_rate == 0.0


def test_a_sourced_encoder_follows_the_run_it_is_trained_in(overrides, tmp_path):
    """It was never initialized in that pipeline."""
    nlp = sample_nlp(overrides, **{"training.max_steps": 10})
    nlp.initialize(lambda: sample_examples(nlp))
    nlp.to_disk(tmp_path / "source")
    config = load_config(SAMPLE, overrides={**overrides, "training.max_steps": 40})
    for name in config["nlp"]["pipeline"]:
        config["components"][name] = {"source": str(tmp_path / "source")}
    sourced = load_model_from_config(config, auto_fill=True)
    settings = registry.resolve(sourced.config.interpolate()["training"], schema=ConfigSchemaTraining)
    settings["logger"](sourced, io.StringIO(), io.StringIO())  # what `spacy train` does before the first step
    sourced.update(sample_examples(sourced), sgd=settings["optimizer"])
    assert settings["optimizer"].learn_rate == pytest.approx(next(warmup_linear(PEAK, 40, 0.1)))


@pytest.mark.parametrize("schedule", [warmup_linear, warmup_cosine])
@pytest.mark.parametrize("make", [adamw, Adam])
def test_a_length_that_nobody_gives_is_an_error_at_the_second_step(make, schedule):
    optimizer = make(schedule(1.0))
    with pytest.raises(UserError, match=r"learn_rate.* does not know how long the run is: set its total_steps"):
        optimizer.step_schedules()
    with pytest.raises(UserError, match="max_steps = 0: set it, or total_steps"):
        set_run_length(make(schedule(1.0)), 0)
    told, known = make(schedule(1.0)), make(schedule(1.0, 5))
    set_run_length(told, 5)
    set_run_length(known, 100)  # what the config says itself stays
    for _ in range(6):
        assert told.learn_rate == known.learn_rate
        told.step_schedules(), known.step_schedules()


def test_optimizers_without_schedules_are_left_alone():
    set_run_length(SimpleNamespace(), 5)
    optimizer = adamw(0.5)
    set_run_length(optimizer, 5)
    assert optimizer.learn_rate == 0.5


@pytest.mark.parametrize("setting", ["seed", "gpu_allocator"])
def test_a_config_without_what_spacy_reads_first_is_refused_with_its_name(setting, overrides):
    config = load_config(SAMPLE, overrides=overrides)
    del config["training"][setting]
    with pytest.raises(UserError, match=rf"no \[training\] {setting}: set it"):
        init_pipeline(config)
