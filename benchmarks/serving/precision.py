"""What each precision costs in score and gains in speed, on a trained pipeline and its dev data.

    python benchmarks/serving/precision.py OUT.json PIPELINE DEV...

PIPELINE is trained by benchmarks/biomedical, DEV is its `corpus/dev`. The measurements are those of `mtl optimize`.
"""

import argparse
import json
from pathlib import Path

import spacy
from pipelines import ROOT  # noqa: F401  (puts its folder on the path)

from mtl.cli.common import encoder_overrides
from mtl.deploy.optimize import OptimizeSettings, optimize_pipeline, optimize_table

from environment import environment  # isort: skip

BARS = {"fp32": 0.05, "bf16": 0.05, "fp16": 0.05, "int8": 0.3}  # points that the score of a head may drop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("pipeline")
    parser.add_argument("dev", type=Path, nargs="+")
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()

    def load(precision: str, backend: str) -> spacy.Language:
        overrides = encoder_overrides(precision=precision, backend=backend, fallback=False)
        return spacy.load(arguments.pipeline, config=overrides)

    result = optimize_pipeline(load, arguments.dev, OptimizeSettings(seconds=arguments.seconds))
    print(optimize_table(result))
    result["bars"] = []
    for name, row in result["tried"].items():
        bar, drop = BARS[row["precision"]], row["drop"]
        print(f"{name} drops {drop:.2f} points (at most {bar}) {'ok' if drop <= bar else 'FALLS SHORT'}")
        result["bars"].append({"tried": name, "drop": drop, "bar": bar, "ok": drop <= bar})
    result["environment"] = environment()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
