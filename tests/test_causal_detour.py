"""`causal-ratio` of `mtl adapt`: the encoder predicts the next subword first, then masked words."""

import pytest
import torch
from test_watch import SMALL, text_file  # noqa: F401

from mtl.adaptation.checkpoint import Progress
from mtl.adaptation.phases import Phase, remaining_phases
from mtl.adaptation.run import Adaptation, adapt
from mtl.adaptation.settings import AdaptSettings
from mtl.encoder.model.mlm import causal_mask
from mtl.errors import UserError


def test_a_subword_sees_itself_and_those_before_it_but_no_padding():
    mask = causal_mask(torch.tensor([[1, 1, 1, 0]]))
    assert mask.tolist() == [[[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 0]]]


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "mpnet", "distilbert", "deberta-v2", "modernbert"])
def test_an_encoder_is_causal_in_the_detour_or_refused(tiny, family):
    """Later subwords change nothing before them, or the run does not begin."""
    try:
        objective = Adaptation(tiny(family), AdaptSettings(causal_ratio=0.5, **SMALL)).objective
    except UserError as error:
        assert "causal-ratio" in str(error) and family not in ("bert", "roberta", "electra")
        return
    ids = torch.randint(5, 20, (1, 8))
    changed = ids.clone()
    changed[0, 6:] = 21
    mask = causal_mask(torch.ones(1, 8, dtype=torch.long))
    with torch.no_grad():
        before, after = (objective.model.eval()(input_ids=part, attention_mask=mask).logits for part in (ids, changed))
    torch.testing.assert_close(before[0, :6], after[0, :6])
    assert not torch.equal(before[0, 6:], after[0, 6:])


def test_the_detour_takes_its_part_of_what_the_head_leaves(tiny, text_file, tmp_path, monkeypatch):  # noqa: F811
    seen = []
    monkeypatch.setattr(
        "mtl.adaptation.objective.masked_loss",
        lambda model, masked, mask, forward: seen.append((mask.ndim, masked.selected.float().mean().item())) or _loss(model),
    )
    settings = AdaptSettings(max_steps=20, epochs=1000, head_only_ratio=0.1, causal_ratio=0.5, num_evaluations=1, **SMALL)
    report = adapt(tiny(), [text_file], tmp_path / "out", settings=settings)
    assert (report["head_steps"], report["steps"]) == (2, 20)
    causal = [share for dimensions, share in seen if dimensions == 3]
    assert len(causal) == 9 and min(causal) > 0.5  # nearly every subword is predicted; the evaluations mask 15%
    assert max(share for dimensions, share in seen if dimensions == 2) < 0.5


def _loss(model):
    return sum(parameter.sum() for parameter in model.parameters()) * 0.0


def test_a_detour_resumes_where_it_was(tiny, text_file, tmp_path):  # noqa: F811
    settings = AdaptSettings(max_minutes=10.0, causal_ratio=0.5, **SMALL)
    objective = Adaptation(tiny(), settings).objective
    progress = Progress(phase="causal", step=30, phase_step=20, seconds=90.0, phase_seconds=60.0)
    causal, encoder = remaining_phases(objective, settings, progress, 1000)
    assert causal.name == "causal" and causal.minutes == pytest.approx(4.75) and causal.steps == 495
    assert encoder.name == "encoder"
    assert not causal.is_over(progress)


def test_the_rate_falls_in_masked_language_modelling_alone():
    settings = AdaptSettings(causal_ratio=0.5, **SMALL)
    late = Progress(phase_step=99)
    causal, encoder = (Phase(name, [], 1.0, 100, 0.0) for name in ("causal", "encoder"))
    assert causal.learning_rate(late, settings) == 1.0 and encoder.learning_rate(late, settings) == pytest.approx(0.01)


def test_a_detour_of_a_decoder_is_refused(tiny):
    with pytest.raises(UserError, match=r'causal-ratio is a detour.*is "clm"'):
        Adaptation(tiny("gpt2"), AdaptSettings(causal_ratio=0.5, **SMALL))


@pytest.mark.parametrize(
    "change, message",
    [({"causal_ratio": 0.95}, "causal-ratio"), ({"causal_ratio": 0.2, "objective": "clm"}, 'objective = "clm"')],
)
def test_a_detour_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        AdaptSettings(**change).check()
