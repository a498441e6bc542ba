"""The files of a new project, as text with comments."""

import json
import re
import shlex
from typing import TYPE_CHECKING, Any, List

from mtl.data.formats.reading import Reading

if TYPE_CHECKING:
    from mtl.training.project import Plan, Project

ADAPTED = "training/encoder"


CONFIG = """\
# One encoder and its heads, trained together. Written by `mtl init` for these files; change what you like.

[paths]
train = "corpus/train"
dev = "corpus/dev"
encoder = "{encoder}"

[system]
seed = 0
gpu_allocator = null

[nlp]
lang = "{lang}"
pipeline = [{names}]
batch_size = 256

[components]

[components.transformer]
factory = "mtl_transformer"

[components.transformer.model]
@architectures = "mtl.Encoder.v1"
# 95% of the documents fit in a window; longer ones are cut into windows that share `overlap` subwords.
window = {window}
overlap = {overlap}
# What is faster on the machine that wrote this: fp32 or bf16. `mtl optimize` chooses for the machine that predicts.
precision = "{precision}"
device = "auto"

# How much each head moves the encoder.
[components.transformer.weighting]
@misc = "mtl.StaticWeighting.v1"
normalize = true
{heads}
[corpora]

[corpora.train]
@readers = "mtl.MultiTaskCorpus.v1"
seed = ${{system.seed}}

[corpora.train.paths]
all = ${{paths.train}}

[corpora.dev]
@readers = "spacy.Corpus.v1"
path = ${{paths.dev}}

[training]
train_corpus = "corpora.train"
dev_corpus = "corpora.dev"
seed = ${{system.seed}}
gpu_allocator = ${{system.gpu_allocator}}
# {epochs} epochs of {words:,} words, {step_words} in a step.
max_steps = {steps}
eval_frequency = {eval_frequency}
patience = 0
max_epochs = -1
dropout = 0.1

[training.before_to_disk]
@callbacks = "mtl.AtomicSave.v1"

[training.logger]
@loggers = "mtl.ConsoleLogger.v1"
progress_bar = true

# Batch by the words that the encoder reads: once for the text, and once for each question.
[training.batcher]
@batchers = "spacy.batch_by_words.v1"
size = {step_words}
tolerance = 0.2
discard_oversize = false

[training.batcher.get_length]
@misc = "mtl.EncodedWords.v1"

[training.optimizer]
@optimizers = "mtl.AdamW.v1"
# Heads start from scratch and learn faster than the encoder.
head_lr_multiplier = 10

[training.optimizer.learn_rate]
@schedules = "mtl.WarmupLinear.v1"
peak_rate = {rate:.2g}

# The best model is the one with the highest mean of these.
[training.score_weights]
{scores}
[initialize]

[initialize.components]

[initialize.components.transformer]

[initialize.components.transformer.encoder_loader]
@misc = "mtl.HuggingFaceLoader.v1"
name = ${{paths.encoder}}
"""


def config_text(project: "Project", plan: "Plan") -> str:
    """configs/pipeline.cfg."""
    heads = "".join(_section(f"components.{name}", settings) for name, settings in plan.heads.items())
    scores = "".join(f"{key} = {'null' if weight is None else weight}\n" for key, weight in plan.scores.items())
    names = ", ".join(f'"{name}"' for name in ("transformer", *plan.heads))
    return CONFIG.format(
        encoder=ADAPTED if project.text else project.encoder_name, lang=project.lang, names=names, heads=heads, scores=scores,
        window=plan.window, overlap=plan.window // 4, precision=plan.precision, epochs=plan.epochs, words=plan.words,
        step_words=plan.step_words, steps=plan.steps, eval_frequency=max(1, plan.steps // 5), rate=plan.rate,
    )  # fmt: skip


def _section(name: str, settings: Any) -> str:
    lines = [f"{key} = {_value(value)}" for key, value in settings.items()]
    return "\n".join(["", f"[{name}]", *lines, ""])


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def project_text(project: "Project", plan: "Plan") -> str:
    """project.yml."""
    scored = "corpus/test" if project.test or not project.dev else "corpus/dev"
    steps = ["convert", *(["adapt"] if project.text else []), "train", "evaluate", "package", "verify"]
    minutes = "  # Of continued pretraining. `mtl compare --adaptation` measures what they gain.\n  adapt_minutes: 20\n"
    variables = {"name": project.name, "version": "0.1.0", "encoder": project.encoder_name}
    lines = "".join(f'  {key}: "{value}"\n' for key, value in variables.items()) + (minutes if project.text else "")
    return (
        f'title: "{project.name}"\n'
        f'description: "One encoder and the heads {", ".join(plan.heads)}, trained together: python -m spacy project run all"\n\n'
        f"vars:\n{lines}\n"
        'directories: ["corpus", "training", "packages", "metrics"]\n\n'
        "workflows:\n  all:\n" + "".join(f"    - {step}\n" for step in steps) + "\ncommands:\n"
        + _convert(project) + (_adapt(project, scored) if project.text else "") + _after(project, scored)
    )  # fmt: skip


def _adapt(project: "Project", scored: str) -> str:
    text = " ".join(shlex.quote(project.relative(path)) for path in project.text)
    held_out = " ".join(f"--decontaminate {split}" for split in dict.fromkeys(["corpus/dev", scored]))
    return _command(
        "adapt", "Continue the encoder's pretraining on the domain text",
        [f"python -m mtl adapt ${{vars.encoder}} {text} --out {ADAPTED} --max-minutes ${{vars.adapt_minutes}} {held_out}"],
        [*(project.relative(path) for path in project.text), "corpus/dev"], [f"{ADAPTED}/adapt.json"],
    )  # fmt: skip


def _after(project: "Project", scored: str) -> str:
    """The steps from training to the verified wheel."""
    model = "training/pipeline/model-best"
    wheel = f"packages/{project.lang}_${{vars.name}}-${{vars.version}}-py3-none-any.whl"
    return _command(
        "train", "Train the heads together", ["python -m mtl train configs/pipeline.cfg --output training/pipeline"],
        ["configs/pipeline.cfg", "corpus/train", "corpus/dev", *([f"{ADAPTED}/adapt.json"] if project.text else [])],
        [f"{model}/meta.json"],
    ) + _command(
        "evaluate", "Score every head beside trivial baselines",
        [f"python -m mtl evaluate {model} {scored} --train corpus/train --out metrics/test.json"],
        [f"{model}/meta.json", scored], ["metrics/test.json"],
    ) + _command(
        "package", "Build the wheels of the pipeline and of spacy-mtl",
        [f"python -m mtl package {model} --out packages --name ${{vars.name}} --version ${{vars.version}} "
         "--metrics metrics/test.json"],
        [f"{model}/meta.json", "metrics/test.json"], [wheel],
    ) + _command(
        "verify", "Install the wheels in a clean environment, and show a document beside its gold annotation",
        [f"python -m mtl verify packages --data {scored} --document 1 --metrics metrics/test.json --out metrics/verify.json"],
        [wheel, "metrics/test.json"], ["metrics/verify.json"],
    )  # fmt: skip


def _convert(project: "Project") -> str:
    """The step that makes corpus/train, corpus/dev and corpus/test."""
    options = _reading_options(project.reading) + f" --lang {project.lang}"
    parts = ["train", "dev", *(["test"] if project.test or not project.dev else [])]
    sources = [project.relative(path) for paths in project.files.values() for path in paths]
    if not project.dev:
        files = " ".join(shlex.quote(project.relative(path)) for path in project.train)
        script = [f"python -m mtl split {files} --out corpus{options}"]
    else:
        script = []
        for files_of_task in zip(*project.files.values()):
            files = " ".join(shlex.quote(project.relative(path)) for path in files_of_task)
            unseen = " --allow-unseen" if project.accepts_errors else ""
            task = _slug(files_of_task[0].stem)
            script.append(f"python -m mtl convert {files} --task {task} --spelling keep --out corpus{options}{unseen}")
    checks = " ".join(f"--{part} corpus/{part}" for part in parts)
    if not project.accepts_errors:
        script.append(f"python -m mtl check {checks}")
    return _command("convert", "Convert the labelled files to spaCy's format and check them", script, sources,
                    [f"corpus/{part}" for part in parts])  # fmt: skip


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)


def _reading_options(reading: Reading) -> str:
    """The options that make a command read files in this way."""
    default = Reading()
    options = [("--column", f"{key.partition(':')[0]}={name}") for key, name in reading.columns.items()]
    options += [("--repair", name) for name in sorted(reading.repair)]
    options += [("--format", reading.format)] if reading.format != default.format else []
    options += [("--encoding", reading.encoding)] if reading.encoding != default.encoding else []
    options += [("--sentences-per-document", str(reading.sentences))] if reading.sentences != default.sentences else []
    return "".join(f" {option} {shlex.quote(value)}" for option, value in options)


def _command(name: str, help: str, script: List[str], deps: List[str], outputs: List[str]) -> str:
    def items(values: List[str]) -> str:
        return "\n".join(f"      - {json.dumps(value, ensure_ascii=False)}" for value in values)  # as YAML quotes strings

    return f"""\
  - name: {name}
    help: "{help}"
    script:
{items(script)}
    deps:
{items(deps)}
    outputs:
{items(outputs)}

"""


def readme_text(project: "Project", plan: "Plan") -> str:
    """README.md."""
    shown = {
        name: ", ".join(f"{key} = {_value(value)}" for key, value in settings.items() if key != "factory")
        for name, settings in plan.heads.items()
    }
    heads = "\n".join(f"- `{name}`: {settings or 'defaults'}" for name, settings in shown.items())
    adapts = ", continues the encoder's pretraining on the domain text" if project.text else ""
    return f"""\
# {project.name}

```bash
python -m spacy project run all
```

This converts and checks the labelled files{adapts}, trains the heads together,
scores them, and builds and verifies a wheel in `packages`. What is done is not repeated; after Ctrl-C, repeat the command.

| file | |
| --- | --- |
| `project.yml` | the steps, with the files and budgets as variables |
| `configs/pipeline.cfg` | the pipeline and its training |

Chosen by looking at the data:

{heads}
- windows of {plan.window} subwords, in {plan.precision}
- {plan.steps:,} steps of {plan.step_words} words, which is about {plan.epochs} epochs; learning rate {plan.rate:.2g}
- about {plan.minutes:,.0f} minutes of training on the machine that wrote this
"""
