"""Compare the joint run with single-task twins. If there are several twins of a head, the best is compared, in their favour.

python benchmarks/biomedical/compare.py OUT.json metrics/joint.json metrics/twins-*.json
"""

import json
import sys
from pathlib import Path

# head -> its score, and its title
SCORES = {
    "ner": ("ents_f", "BC5CDR, entity F1"),
    "roles": ("cats_accuracy", "abstract roles, accuracy"),
    "qa": ("qa_f1", "Evidence Inference, token F1"),
}
BAR = 1.0  # points that a joint score may be below that of the twin


def main(out: str, joint_file: str, *twins_files: str) -> None:
    joint, *twins = (json.loads(Path(file).read_text()) for file in (joint_file, *twins_files))
    rows = {}
    print(f"{'':32}  {'joint':>6}  {'twin':>6}  {'difference':>10}")
    for head, (key, name) in SCORES.items():
        candidates = [(100 * run["tasks"][head][key], run["settings"]) for run in twins if head in run["tasks"]]
        if candidates:
            ours, (theirs, settings) = 100 * joint["scores"][key], max(candidates, key=lambda candidate: candidate[0])
            rows[head] = {"score": key, "joint": ours, "twin": theirs, "difference": ours - theirs, "twin_settings": settings}
            verdict = "" if ours >= theirs - BAR else f"   more than {BAR} below"
            print(f"{name:32}  {ours:6.1f}  {theirs:6.1f}  {ours - theirs:+10.1f}{verdict}")
    result = {"comparison": rows, "joint": joint, "twins": twins}
    Path(out).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
