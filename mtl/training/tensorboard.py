"""A logger for TensorBoard."""

import sys
from typing import IO, Any, Callable, Dict, List, Optional, Tuple

from spacy.language import Language

from mtl.errors import UserError
from mtl.training.logger import means, statistics_of


def tensorboard_logger(log_dir: str = "training/tensorboard") -> Callable:
    """Logger `mtl.TensorBoardLogger.v1`: losses, scores and weighting as curves. For a table as well, use `spacy.ChainLogger.v1`.

    At each evaluation it writes `loss/PIPE`, `score/NAME`, `score`, and `weighting/KEY`, the means since the evaluation before.

    Args:
        log_dir (str): Folder for the event files, to be shown with `tensorboard --logdir`.

    Raises:
        UserError: tensorboard is not installed. Raised when training starts.
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
            scalars = {f"loss/{name}": value for name, value in info["losses"].items()}
            scores = info["other_scores"].items()
            scalars |= {f"score/{name}": value for name, value in scores if isinstance(value, (int, float))}
            scalars |= {f"weighting/{key}": value for key, value in means(rows).items()}
            for name, value in {**scalars, "score": info["score"]}.items():
                writer.add_scalar(name, value, info["step"])
            writer.flush()
            rows.clear()

        return log_step, writer.close

    return setup
