"""The encoders that `mtl compare --adaptation` compares: the original, and what the same budget makes of it in several ways."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Sequence

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


@dataclass(frozen=True)
class Arm:
    """A way to spend the budget.

    Args:
        title (str): Its name in reports.
        continuations (Sequence[Continuation]): What the encoder is trained on before the heads, one after the other.
        has_auxiliary (bool): Auxiliary tasks, such as masked words, are trained beside the heads. One part of the minutes is left
            for what that costs.
        is_taught (bool): The heads are trained on the original encoder and taught by heads on the adapted one.
    """

    title: str
    continuations: Sequence[Continuation]
    has_auxiliary: bool = False
    is_taught: bool = False

    @property
    def needs_domain(self) -> bool:
        """Whether there has to be domain text."""
        return any(continuation.text != "task" for continuation in self.continuations)

    @property
    def parts(self) -> int:
        """Into how many parts the minutes are divided."""
        return len(self.continuations) + self.has_auxiliary


ARMS = {
    "task": Arm("task text", [Continuation("task")]),
    "domain": Arm("domain text", [Continuation("domain")]),
    "both": Arm("domain, then task text", [Continuation("domain"), Continuation("task")]),
    "near": Arm("domain text near the task's", [Continuation("near")]),
    "causal": Arm("domain text, first causally", [Continuation("domain", {"causal_ratio": 0.7})]),
    "beside": Arm("domain text, then masked words beside the heads", [Continuation("domain")], has_auxiliary=True),
    "taught": Arm("taught by heads on domain text", [Continuation("domain")], is_taught=True),
}
DEFAULT_ARMS = ["task", "domain", "both"]


@dataclass
class AdaptedEncoder:
    """An encoder to start the heads from.

    Args:
        name (str): A Hugging Face folder or a name on the hub.
        cost (Dict[str, Any]): What it cost to adapt: "steps" with the tokens, epochs, seconds and perplexities of each
            continuation.
        has_auxiliary (bool): See `Arm`.
        teacher (str): The encoder of the heads that teach; empty for none.
    """

    name: str
    cost: Dict[str, Any]
    has_auxiliary: bool = False
    teacher: str = ""

    @property
    def weights(self) -> str:
        """Identifies the weights."""
        return weights_of(self.name)


def check_arms(names: Sequence[str], has_domain: bool) -> List[str]:
    """The arms to compare with the base: those named, or by default those of `DEFAULT_ARMS` that there is text for.

    Raises:
        UserError: There is no such arm, or no domain text for it.
    """
    unknown = [name for name in names if name not in ARMS]
    if unknown:
        raise UserError(f"--arms {','.join(names)}: there is no arm {unknown[0]!r}; there are {', '.join(ARMS)}")
    without_text = [name for name in names if ARMS[name].needs_domain and not has_domain]
    if without_text:
        raise UserError(f"--arms {','.join(names)}: {', '.join(without_text)} need --text")
    return list(names) or [name for name in DEFAULT_ARMS if has_domain or not ARMS[name].needs_domain]


def make_arms(
    runs: Runs, base: str, domain: Sequence[str], general: Sequence[str], budget: AdaptSettings, echo: Echo,
    arms: Sequence[str] = (), teacher: str = "",
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
        teacher (str): The encoder to adapt where its heads only teach; empty for the same as `base`.

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
        arm = ARMS[name]
        echo(f"{arm.title}:")
        encoder = AdaptedEncoder(teacher, {}) if arm.is_taught and teacher else encoders[BASE]
        for continuation in arm.continuations:
            try:
                encoder = maker.adapted(encoder, continuation, arm.parts)
            except UserError as error:
                raise UserError(f"the arm {name!r}: {error}") from error
        if arm.is_taught:
            encoder = replace(encoders[BASE], cost=encoder.cost, teacher=encoder.name)
        encoders[arm.title] = replace(encoder, has_auxiliary=arm.has_auxiliary)
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
        """The encoder after one of so many parts that share the minutes."""
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
        held_out = [str(path) for path in self.runs.data]
        hashes = [sha256_of(file) for file in [*files, *labelled_files(held_out)]]
        out = self.runs.folder / "near" / key_of({"files": hashes, "k": NEIGHBOURS})
        if not out.exists():
            pick_neighbours(labelled, self.domain, out, NeighbourSettings(NEIGHBOURS), held_out, self.echo)
        return [str(out / "neighbours.jsonl")]
