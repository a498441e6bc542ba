"""The encoders that `mtl compare --adaptation` compares: the original, and what the same budget makes of it in several ways."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from mtl.adaptation.cleaning import CleanSettings, labelled_files
from mtl.adaptation.neighbours import NeighbourSettings, pick_neighbours
from mtl.adaptation.run import adapt
from mtl.adaptation.settings import AdaptSettings
from mtl.adaptation.text import text_files
from mtl.compare.runs import Runs, key_of, weights_of
from mtl.errors import UserError
from mtl.files import read_json, sha256_of
from mtl.progress import Echo

UNLIMITED_EPOCHS = 10_000.0  # so that the budget ends a continuation
NEIGHBOURS = 50  # paragraphs for each labelled document
BASE = "base"


@dataclass(frozen=True)
class Continuation:
    """One continued pretraining of an arm.

    Args:
        text (str): "task" (the text of the labelled documents), "domain", or "near" (the domain text nearest to that of the
            labelled documents).
        settings (Dict[str, Any]): Settings of `AdaptSettings` to change.
    """

    text: str
    settings: Dict[str, Any] = field(default_factory=dict)


# name on the command line -> name in reports, continuations one after the other
ARMS: Dict[str, Tuple[str, Sequence[Continuation]]] = {
    "task": ("task text", [Continuation("task")]),
    "domain": ("domain text", [Continuation("domain")]),
    "both": ("domain, then task text", [Continuation("domain"), Continuation("task")]),
    "near": ("domain text near the task's", [Continuation("near")]),
    "causal": ("domain text, first causally", [Continuation("domain", {"causal_ratio": 0.7})]),
}


@dataclass
class AdaptedEncoder:
    """An encoder to start the heads from.

    Args:
        name (str): A Hugging Face folder or a name on the hub.
        cost (Dict[str, Any]): What it cost to adapt: "steps" with the tokens, epochs, seconds and perplexities of each
            continuation.
    """

    name: str
    cost: Dict[str, Any]

    @property
    def weights(self) -> str:
        """Identifies the weights."""
        return weights_of(self.name)


def check_arms(names: Sequence[str], has_domain: bool) -> List[str]:
    """The arms to compare with the base: those named, or by default the first three that there is text for.

    Raises:
        UserError: There is no such arm, or no domain text for it.
    """
    unknown = [name for name in names if name not in ARMS]
    if unknown:
        raise UserError(f"--arms {','.join(names)}: there is no arm {unknown[0]!r}; there are {', '.join(ARMS)}")
    needing = [name for name, (_, parts) in ARMS.items() if any(part.text != "task" for part in parts)]
    if not has_domain and set(names) & set(needing):
        raise UserError(f"--arms {','.join(names)}: {', '.join(name for name in names if name in needing)} need --text")
    return list(names) or [name for name in list(ARMS)[:3] if has_domain or name not in needing]


def make_arms(
    runs: Runs, base: str, domain: Sequence[str], general: Sequence[str], budget: AdaptSettings, echo: Echo,
    arms: Sequence[str] = (),
) -> Dict[str, AdaptedEncoder]:  # fmt: skip
    """Make the encoders to compare. Task text is the union of all heads' own: the text of a single head hurts the others.

    Args:
        runs (Runs): The trainings. The text of the data that they are scored on is left out.
        base (str): The encoder to start from; empty for the one in the config.
        domain (Sequence[str]): Domain text.
        general (Sequence[str]): General text to measure forgetting on.
        budget (AdaptSettings): What an arm may spend: `max_tokens` in each of its continuations, or `max_minutes` in all of them
            together. Also its precision.
        echo (Echo): Gets messages.
        arms (Sequence[str]): Which of `ARMS`; see `check_arms`.

    Returns:
        Dict[str, AdaptedEncoder]: The encoders by the arms' names in reports, beginning with the base.

    Raises:
        UserError: There is no such arm, no text for it, or it cannot take a step within its minutes.
    """
    names = check_arms(arms, bool(domain))
    text_files([*domain, *general])  # a wrong name is found before anything is trained
    maker = _Maker(runs, list(domain), list(general), replace(budget, epochs=UNLIMITED_EPOCHS), echo)
    encoders = {BASE: AdaptedEncoder(base or runs.encoder(), {})}
    for name in names:
        title, continuations = ARMS[name]
        echo(f"{title}:")
        encoder = encoders[BASE]
        for continuation in continuations:
            try:
                encoder = maker.adapted(encoder, continuation, len(continuations))
            except UserError as error:
                raise UserError(f"the arm {name!r}: {error}") from error
        encoders[title] = encoder
    return encoders


@dataclass
class _Maker:
    """Adapts encoders, each in a folder named by everything it depends on. If that is there, it is used."""

    runs: Runs
    domain: List[str]
    general: List[str]
    budget: AdaptSettings
    echo: Echo

    def adapted(self, start: AdaptedEncoder, continuation: Continuation, count: int) -> AdaptedEncoder:
        """The encoder after one of so many continuations, which share the minutes."""
        settings = replace(self.budget, **continuation.settings, max_minutes=self.budget.max_minutes / count)
        cleaning = CleanSettings(decontaminate=[str(path) for path in self.runs.data])
        texts = self._texts(continuation.text)
        files = [*text_files(texts), *text_files(self.general), *labelled_files(cleaning.decontaminate)]
        key = key_of({"encoder": start.weights, "files": [sha256_of(file) for file in files], **asdict(settings)})
        out = self.runs.folder / "encoders" / key
        if not (out / "adapt.json").exists() or read_json(out / "adapt.json")["interrupted"]:
            adapt(start.name, texts, out, general=self.general, settings=settings, cleaning=cleaning, echo=self.echo)
        report = read_json(out / "adapt.json")
        if report["interrupted"]:
            raise KeyboardInterrupt
        step = {key: report[key] for key in ("tokens", "epochs", "seconds", "perplexity_before", "perplexity_after")}
        return AdaptedEncoder(str(out), {"steps": [*start.cost.get("steps", []), step]})

    def _texts(self, kind: str) -> List[str]:
        """The files with this kind of text."""
        labelled = [str(file) for files in self.runs.train_files.values() for file in files]
        if kind != "near":
            return labelled if kind == "task" else self.domain
        files = [*map(Path, labelled), *text_files(self.domain)]
        out = self.runs.folder / "near" / key_of({"files": [sha256_of(file) for file in files]})
        if not out.exists():
            held_out = [str(path) for path in self.runs.data]
            pick_neighbours(labelled, self.domain, out, NeighbourSettings(NEIGHBOURS), held_out, self.echo)
        return [str(out / "neighbours.jsonl")]
