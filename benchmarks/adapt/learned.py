"""What continued pretraining teaches: perplexity in domain and on general text, and words filled in, before and after.

    python benchmarks/adapt/learned.py OUT.json --text FILE --general FILE [--minutes 20] [--away-from FOLDER]

"Before" is after the masked-LM head alone was trained, the encoder as it came. The sentences are written for this script; what is
expected of each is named beside it, and its rank among all words of the vocabulary is what counts.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from mtl.adapt.cleaning import CleanSettings
from mtl.adapt.loop import Adaptation
from mtl.adapt.settings import AdaptSettings
from mtl.adapt.trainer import Trainer

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


class Clozing(Adaptation):
    """Fills in the sentences when the head has been trained, and the encoder has not."""

    def trainer(self, *given: Any) -> Trainer:
        trainer = super().trainer(*given)
        evaluate = trainer.watch.evaluate

        def also(model: Any, progress: Any, *rest: Any) -> Dict[str, Any]:
            if not progress.evaluations:
                self.before = fill(model, self.tokenizer)
            return evaluate(model, progress, *rest)

        trainer.watch.evaluate = also  # type: ignore[method-assign]
        return trainer


@torch.no_grad()
def fill(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> List[Dict[str, Any]]:
    """Of each sentence, the rank of the expected word, and the first three words."""
    training = model.training
    model.eval()
    filled = []
    for sentence, expected in CLOZES:
        inputs = tokenizer(sentence, return_tensors="pt").to(model.device)
        logits = model(**inputs).logits[inputs["input_ids"] == tokenizer.mask_token_id][0]
        ranks = logits.argsort(descending=True)
        (known,) = tokenizer(expected, add_special_tokens=False)["input_ids"]
        first: List[str] = tokenizer.convert_ids_to_tokens(ranks[:3].tolist())
        filled.append({"sentence": sentence, "expected": expected, "rank": int((ranks == known).nonzero()) + 1, "first": first})
    model.train(training)
    return filled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--text", required=True)
    parser.add_argument("--general", required=True)
    parser.add_argument("--away-from", default="")
    parser.add_argument("--minutes", type=float, default=20)
    arguments = parser.parse_args()
    settings = AdaptSettings(minutes=arguments.minutes, passes=20, replay=0.0)
    run = Clozing(ENCODER, settings)
    cleaning = CleanSettings(away_from=[arguments.away_from] if arguments.away_from else [])
    with tempfile.TemporaryDirectory() as folder:
        adapted = Path(folder) / "adapted"
        report = run.run([arguments.text], [arguments.general], adapted, cleaning=cleaning)
        after = fill(AutoModelForMaskedLM.from_pretrained(adapted), AutoTokenizer.from_pretrained(adapted))
    before = run.before
    for one, other in zip(before, after):
        print(f"{one['sentence']}\n  {one['expected']}: rank {one['rank']:,} before, {other['rank']:,} after; "
              f"{', '.join(one['first'])} before, {', '.join(other['first'])} after")  # fmt: skip
    report.pop("cleaning")
    result = {"encoder": ENCODER, "text": Path(arguments.text).name, "general": Path(arguments.general).name, **report}
    result |= {"filled_in": {"before": before, "after": after}, "environment": environment()}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
