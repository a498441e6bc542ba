"""Does continued pretraining help the heads? The encoder as it is, against the same continued on task text, domain text, both."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

from mtl.adapt.cleaning import CleanSettings, labelled_files
from mtl.adapt.loop import Adaptation
from mtl.adapt.settings import AdaptSettings
from mtl.adapt.text import text_files
from mtl.compare.differences import difference_rows
from mtl.compare.runs import CompareSettings, Run, Runs, key_of, weights_of
from mtl.files import read_json, sha256_of
from mtl.machine import machine

Echo = Callable[[str], None]
MANY = 10_000.0  # passes: the tokens end a continuation
BASE, TASK, DOMAIN, BOTH = "base", "task text", "domain text", "domain, then task text"


@dataclass
class Encoder:
    """An encoder to start from, and what it cost to make: wordpieces of training, minutes, perplexities."""

    name: str
    cost: Dict[str, Any]

    @property
    def weights(self) -> str:
        return weights_of(self.name)


def make_arms(
    runs: Runs, base: str, domain: Sequence[str], general: Sequence[str], tokens: float, precision: str, echo: Echo
) -> Dict[str, Encoder]:
    """The encoders that are compared. Task text is the union of all heads' own: one head's alone hurts the others.

    base: "" for the one that the config names. domain: files; without any, what needs them is left out. tokens: of training, for
    each continuation. What the runs are scored on is kept out of the text.
    """
    task = [str(file) for files in runs.train_files.values() for file in files]
    text_files([*domain, *general])  # a wrong name is found before anything is trained
    settings = AdaptSettings(passes=MANY, tokens=tokens, precision=precision)
    cleaning = CleanSettings(away_from=[str(path) for path in runs.data])
    made = {BASE: Encoder(base or runs.encoder(), {})}
    parts = [(TASK, BASE, task)] + ([(DOMAIN, BASE, list(domain)), (BOTH, DOMAIN, task)] if domain else [])
    for arm, start, texts in parts:
        echo(f"{arm}:")
        made[arm] = _adapted(made[start], texts, list(general), settings, cleaning, runs.folder / "encoders", echo)
    return made


def _adapted(
    start: Encoder,
    texts: List[str],
    general: List[str],
    settings: AdaptSettings,
    cleaning: CleanSettings,
    folder: Path,
    echo: Echo,
) -> Encoder:
    """The encoder continued on the texts, in a folder named by all that it depends on; made before, it is taken as it is."""
    files = [*text_files(texts), *text_files(general), *labelled_files(cleaning.away_from)]
    out = folder / key_of({"encoder": start.weights, "files": [sha256_of(file) for file in files], **asdict(settings)})
    if not (out / "adapt.json").exists() or read_json(out / "adapt.json")["interrupted"]:
        Adaptation(start.name, settings, echo).run(texts, general, out, cleaning=cleaning)
    report = read_json(out / "adapt.json")
    if report["interrupted"]:
        raise KeyboardInterrupt
    own = {key: report[key] for key in ("tokens", "passes", "seconds", "perplexity_before", "perplexity_after")}
    return Encoder(str(out), {"steps": [*start.cost.get("steps", []), own]})


def compare_adaptation(runs: Runs, arms: Dict[str, Encoder], settings: CompareSettings, echo: Echo) -> Dict[str, Any]:
    """Train the heads on each encoder, with each share of the labels and each seed.

    RETURNS: "runs", their "differences" to the base, "arms" with what each cost, "environment".
    """
    setting = runs.encoder_setting()
    plan = [
        Run(arm, seed, share, {setting: encoder.name})
        for share in settings.labels for seed in range(settings.seeds) for arm, encoder in arms.items()
    ]  # fmt: skip
    done = runs.results(plan, {arm: {setting: encoder.weights} for arm, encoder in arms.items()}, None, echo)
    return {
        "config": runs.config.name, "documents": runs.documents, "seeds": settings.seeds,
        "arms": {arm: encoder.cost for arm, encoder in arms.items()},
        "differences": [row for share in settings.labels for row in _against_base(done, share, list(arms))],
        "runs": done, "environment": machine(),
    }  # fmt: skip


def _against_base(done: List[Dict[str, Any]], share: float, arms: List[str]) -> List[Dict[str, Any]]:
    scores = {arm: [run["scores"] for run in done if run["arm"] == arm and run["labels"] == share] for arm in arms}
    return [
        {"arm": arm, "labels": share, **row}
        for arm in arms[1:]
        for row in difference_rows(scores[arms[0]], scores[arm], ("base", "adapted"))
    ]
