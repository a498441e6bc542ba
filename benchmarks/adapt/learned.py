"""What continued pretraining teaches: perplexity on domain and general text, and words filled in, before and after.

    python benchmarks/adapt/learned.py OUT.json --text FILE --general FILE [--max-minutes 20] [--decontaminate FOLDER]

"Before" means after only the masked-LM head was trained, with the encoder as it came. The sentences are written for this script.
Each has an expected word; its rank in the whole vocabulary is the measure.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional

import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from mtl.adaptation.blocks import Corpus
from mtl.adaptation.checkpoint import AdaptCheckpoints
from mtl.adaptation.cleaning import CleanSettings
from mtl.adaptation.probe import Probe
from mtl.adaptation.run import Adaptation
from mtl.adaptation.settings import AdaptSettings
from mtl.adaptation.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from environment import environment  # noqa: E402

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
CLOZES = [
    ("Patients were randomly assigned to the intervention or to the control [MASK].", "group"),
    ("Systolic blood [MASK] was measured at every visit.", "pressure"),
    ("Serious adverse [MASK] were reported in both arms.", "events"),
    ("The primary [MASK] was survival at twelve months.", "outcome"),
    ("Patients with type 2 diabetes received [MASK] or metformin.", "insulin"),
    ("All participants gave written informed [MASK].", "consent"),
    ("The difference was not statistically [MASK].", "significant"),
    ("Women with breast [MASK] were followed for five years.", "cancer"),
]


class ClozeAdaptation(Adaptation):
    """Also fills in the sentences once the head is trained and the encoder is not.

    Attributes:
        before (List[Dict[str, Any]]): What `fill` returned then.
    """

    def trainer(
        self, corpus: Corpus, general: Optional[Corpus], checkpoints: AdaptCheckpoints, probe: Optional[Probe] = None
    ) -> Trainer:
        trainer = super().trainer(corpus, general, checkpoints, probe)
        measure = trainer.monitor.measure

        def fill_and_measure() -> Dict[str, Any]:
            if not trainer.progress.evaluations:
                self.before = fill(self.objective.model, self.objective.tokenizer)
            return measure()

        trainer.monitor.measure = fill_and_measure
        return trainer


@torch.no_grad()
def fill(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> List[Dict[str, Any]]:
    """For each sentence, the rank of the expected word and the three most likely words."""
    was_training = model.training
    model.eval()
    filled = []
    for sentence, expected in CLOZES:
        inputs = tokenizer(sentence, return_tensors="pt").to(model.device)
        logits = model(**inputs).logits[inputs["input_ids"] == tokenizer.mask_token_id][0]
        by_likelihood = logits.argsort(descending=True)
        (expected_id,) = tokenizer(expected, add_special_tokens=False)["input_ids"]
        rank = int((by_likelihood == expected_id).nonzero()) + 1
        first: List[str] = tokenizer.convert_ids_to_tokens(by_likelihood[:3].tolist())
        filled.append({"sentence": sentence, "expected": expected, "rank": rank, "first": first})
    model.train(was_training)
    return filled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--text", required=True)
    parser.add_argument("--general", required=True)
    parser.add_argument("--decontaminate", default="")
    parser.add_argument("--max-minutes", type=float, default=20)
    arguments = parser.parse_args()
    settings = AdaptSettings(max_minutes=arguments.max_minutes, epochs=20, replay_ratio=0.0)
    run = ClozeAdaptation(ENCODER, settings)
    cleaning = CleanSettings(decontaminate=[arguments.decontaminate] if arguments.decontaminate else [])
    with tempfile.TemporaryDirectory() as folder:
        adapted = Path(folder) / "adapted"
        report = run.run([arguments.text], adapted, general=[arguments.general], cleaning=cleaning)
        after = fill(AutoModelForMaskedLM.from_pretrained(adapted), AutoTokenizer.from_pretrained(adapted))
    for earlier, later in zip(run.before, after):
        print(f"{earlier['sentence']}\n  {earlier['expected']}: rank {earlier['rank']:,} before, {later['rank']:,} after; "
              f"{', '.join(earlier['first'])} before, {', '.join(later['first'])} after")  # fmt: skip
    report.pop("cleaning")
    result = {"encoder": ENCODER, "text": Path(arguments.text).name, "general": Path(arguments.general).name, **report}
    result |= {"filled_in": {"before": run.before, "after": after}, "environment": environment()}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
