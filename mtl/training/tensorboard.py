"""The training's curves, for TensorBoard."""

import sys
from typing import IO, Any, Callable, Dict, List, Optional, Tuple

from spacy.language import Language

from mtl.errors import UserError
from mtl.training.logger import means, statistics_of


def tensorboard_logger(log_dir: str = "training/tensorboard") -> Callable:
    """`mtl.TensorBoardLogger.v1`: at each evaluation `loss/PIPE`, `score/NAME`, `score`, and of the balance `balance/KEY`.

    log_dir: where event files are written; `tensorboard --logdir` shows them. A table beside it, by `spacy.ChainLogger.v1`.
    """

    def setup(nlp: Language, stdout: IO = sys.stdout, stderr: IO = sys.stderr) -> Tuple[Callable, Callable]:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UserError('mtl.TensorBoardLogger.v1 needs tensorboard: pip install "spacy-mtl[tensorboard]"') from None
        writer = SummaryWriter(log_dir)
        rows: List[Dict[str, float]] = []

        def log_step(info: Optional[Dict[str, Any]]) -> None:
            rows.extend(statistics_of(nlp))
            if info is None:
                return
            numbers = {f"loss/{name}": value for name, value in info["losses"].items()}
            numbers |= {f"score/{name}": one for name, one in info["other_scores"].items() if isinstance(one, (int, float))}
            numbers |= {f"balance/{key}": value for key, value in means(rows).items()}
            for name, value in {**numbers, "score": info["score"]}.items():
                writer.add_scalar(name, value, info["step"])
            writer.flush()
            rows.clear()

        return log_step, writer.close

    return setup
