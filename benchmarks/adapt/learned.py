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

from mtl.adapt.cleaning import CleanSettings
from mtl.adapt.loop import Adaptation
from mtl.adapt.settings import AdaptSettings
from mtl.adapt.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from environment import environment  # noqa: E402

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
CLOZES = [
    ("Participants were randomly assigned to the drug or to [MASK].", "placebo"),
    ("Systolic blood [MASK] was measured at every visit.", "pressure"),
    ("Serious adverse [MASK] were reported in both arms.", "events"),
    ("The primary [MASK] was survival at twelve months.", "outcome"),
    ("Patients with type 2 diabetes received [MASK] or metformin.", "insulin"),
    ("All participants gave written informed [MASK].", "consent"),
    ("The difference was not statistically [MASK].", "significant"),
    ("Women with breast [MASK] were followed for five years.", "cancer"),
]


class Clozing(Adaptation):
    """Fills in the sentences at each evaluation."""

    def trainer(self, *given: Any) -> Trainer:
        trainer = super().trainer(*given)
        evaluate, self.filled = trainer.watch.evaluate, []  # type: ignore[misc]

        def also(model: Any, progress: Any) -> Dict[str, Any]:
            self.filled.append({"step": progress.step, "clozes": [self.fill(*cloze) for cloze in CLOZES]})
            return evaluate(model, progress)

        trainer.watch.evaluate = also  # type: ignore[method-assign]
        return trainer

    @torch.no_grad()
    def fill(self, sentence: str, expected: str) -> Dict[str, Any]:
        training = self.model.training
        self.model.eval()
        inputs = self.tokenizer(sentence, return_tensors="pt").to(self.device)
        logits = self.model(**inputs).logits[inputs["input_ids"] == self.tokenizer.mask_token_id][0]
        self.model.train(training)
        ranks = logits.argsort(descending=True)
        (known,) = self.tokenizer(expected, add_special_tokens=False)["input_ids"]
        first: List[str] = self.tokenizer.convert_ids_to_tokens(ranks[:3].tolist())
        return {"sentence": sentence, "expected": expected, "rank": int((ranks == known).nonzero()) + 1, "first": first}


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
        report = run.run([arguments.text], [arguments.general], Path(folder) / "adapted", cleaning=cleaning)
    before, after = run.filled[0]["clozes"], run.filled[-1]["clozes"]
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
