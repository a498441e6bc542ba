"""Does continued pretraining help the heads? Compare the encoder as it is with the same one adapted to task and domain text."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Sequence

from mtl.adaptation.cleaning import CleanSettings, labelled_files
from mtl.adaptation.run import adapt
from mtl.adaptation.settings import AdaptSettings
from mtl.adaptation.text import text_files
from mtl.compare.differences import difference_rows
from mtl.compare.runs import CompareSettings, Runs, TrainingRun, key_of, weights_of
from mtl.files import read_json, sha256_of
from mtl.progress import Echo
from mtl.timing import machine

UNLIMITED_EPOCHS = 10_000.0  # so that the token budget ends a continuation
BASE, TASK, DOMAIN, BOTH = "base", "task text", "domain text", "domain, then task text"


@dataclass
class AdaptedEncoder:
    """An encoder to start the heads from.

    Args:
        name (str): A Hugging Face folder or a name on the hub.
        cost (Dict[str, Any]): What it cost to adapt: "steps" with the tokens, epochs, seconds and perplexities of each run.
    """

    name: str
    cost: Dict[str, Any]

    @property
    def weights(self) -> str:
        """Identifies the weights."""
        return weights_of(self.name)


def make_arms(
    runs: Runs, base: str, domain: Sequence[str], general: Sequence[str], budget: AdaptSettings, echo: Echo
) -> Dict[str, AdaptedEncoder]:
    """Make the encoders to compare. Task text is the union of all heads' own: the text of a single head hurts the others.

    Args:
        runs (Runs): The trainings. The text of the data that they are scored on is left out.
        base (str): The encoder to start from; empty for the one in the config.
        domain (Sequence[str]): Domain text; without any, the arms that need it are left out.
        general (Sequence[str]): General text to measure forgetting on.
        budget (AdaptSettings): What an arm may spend: `max_tokens` in each of its continuations, or `max_minutes` in all of them
            together. Also its precision.
        echo (Echo): Gets messages.

    Returns:
        Dict[str, AdaptedEncoder]: The encoders by arm.
    """
    task = [str(file) for files in runs.train_files.values() for file in files]
    text_files([*domain, *general])  # a wrong name is found before anything is trained
    settings = replace(budget, epochs=UNLIMITED_EPOCHS)
    cleaning = CleanSettings(decontaminate=[str(path) for path in runs.data])
    encoders = {BASE: AdaptedEncoder(base or runs.encoder(), {})}
    parts = [(TASK, BASE, task)] + ([(DOMAIN, BASE, list(domain)), (BOTH, DOMAIN, task)] if domain else [])
    for arm, start, texts in parts:
        echo(f"{arm}:")
        if arm == BOTH and settings.max_minutes:  # half of the minutes for each text
            half = replace(settings, max_minutes=settings.max_minutes / 2)
            first = _adapted(encoders[BASE], list(domain), list(general), half, cleaning, runs.folder / "encoders", echo)
            encoders[arm] = _adapted(first, texts, list(general), half, cleaning, runs.folder / "encoders", echo)
        else:
            encoders[arm] = _adapted(encoders[start], texts, list(general), settings, cleaning, runs.folder / "encoders", echo)
    return encoders


def _adapted(
    start: AdaptedEncoder,
    texts: List[str],
    general: List[str],
    settings: AdaptSettings,
    cleaning: CleanSettings,
    folder: Path,
    echo: Echo,
) -> AdaptedEncoder:
    """The encoder adapted to the texts, in a folder named by everything it depends on. If that is there, it is used."""
    files = [*text_files(texts), *text_files(general), *labelled_files(cleaning.decontaminate)]
    out = folder / key_of({"encoder": start.weights, "files": [sha256_of(file) for file in files], **asdict(settings)})
    if not (out / "adapt.json").exists() or read_json(out / "adapt.json")["interrupted"]:
        adapt(start.name, texts, out, general=general, settings=settings, cleaning=cleaning, echo=echo)
    report = read_json(out / "adapt.json")
    if report["interrupted"]:
        raise KeyboardInterrupt
    step = {key: report[key] for key in ("tokens", "epochs", "seconds", "perplexity_before", "perplexity_after")}
    return AdaptedEncoder(str(out), {"steps": [*start.cost.get("steps", []), step]})


def compare_adaptation(runs: Runs, arms: Dict[str, AdaptedEncoder], settings: CompareSettings, echo: Echo) -> Dict[str, Any]:
    """Train the heads on each encoder, with each fraction of the labelled documents and each seed.

    Args:
        runs (Runs): The trainings.
        arms (Dict[str, AdaptedEncoder]): What `make_arms` returned.
        settings (CompareSettings): Seeds and fractions.
        echo (Echo): Gets messages.

    Returns:
        Dict[str, Any]: "runs", their "differences" to the base, "arms" with what each cost, "environment".
    """
    setting = runs.encoder_setting()
    plan = [
        TrainingRun(arm, seed, fraction, {setting: encoder.name})
        for fraction in settings.label_fractions for seed in range(settings.seeds) for arm, encoder in arms.items()
    ]  # fmt: skip
    results = runs.results(plan, {arm: {setting: encoder.weights} for arm, encoder in arms.items()}, None, echo)
    return {
        "config": runs.config.name, "documents": runs.documents, "seeds": settings.seeds,
        "arms": {arm: encoder.cost for arm, encoder in arms.items()},
        "differences": [
            row for fraction in settings.label_fractions for row in _against_base(results, fraction, list(arms))
        ],
        "runs": results, "environment": machine(),
    }  # fmt: skip


def _against_base(results: List[Dict[str, Any]], fraction: float, arms: List[str]) -> List[Dict[str, Any]]:
    """The differences of each arm to the first, at one fraction of the labelled documents."""
    at_fraction = [run for run in results if run["label_fraction"] == fraction]
    scores = {arm: [run["scores"] for run in at_fraction if run["arm"] == arm] for arm in arms}
    return [
        {"arm": arm, "label_fraction": fraction, **row}
        for arm in arms[1:]
        for row in difference_rows(scores[arms[0]], scores[arm], ("base", "adapted"))
    ]
