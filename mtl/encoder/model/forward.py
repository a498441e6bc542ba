"""Windows through the transformer: padded batches in, token vectors out. No spaCy."""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Tuple

import numpy as np
import torch
from torch import Tensor

from mtl.encoder.model.batching import GroupSums, batches_by_length, mean_weights, rounded_lengths, sum_by_group
from mtl.encoder.model.layout import Windows
from mtl.encoder.model.recompute import recomputed
from mtl.encoder.model.windows import Template
from mtl.encoder.runtime.gpu import plan_free_attention, upload
from mtl.encoder.runtime.workers import side_by_side
from mtl.errors import UserError


@dataclass(frozen=True)
class WindowForward:
    """Runs windows through a model, batch by batch.

    Args:
        template (Template): The special tokens around texts and prompts.
        window (int): Subwords in a window, at most.
        width (int): Size of a token vector.
        max_batch_subwords (int): Padded subwords in a forward pass.
        pad_id (int): Id of the padding token.
        accepts_types (bool): Whether the model takes segment ids.
        broadcasts_mask (bool): Whether the model broadcasts an attention mask of (batch, 1, length).
        top_layers (int): How many of the top layers to read, the last one first.
    """

    template: Template
    window: int
    width: int
    max_batch_subwords: int
    pad_id: int
    accepts_types: bool
    broadcasts_mask: bool
    top_layers: int = 1

    def read(
        self, model: Any, windows: Windows, lengths: np.ndarray, workers: int, device: torch.device, keep: int = 0
    ) -> Tuple[Tensor, Tensor]:
        """Run the windows through the model batch by batch, and sum up each token's vector and each item's summary.

        Args:
            model (Any): What runs a padded batch; in training the module itself.
            windows (Windows): The windows.
            lengths (np.ndarray): Tokens of each item.
            workers (int): Batches that run side by side; 0 in training.
            device (torch.device): Where the model is.
            keep (int): In training, of how many subwords to keep what the backward pass needs. If there are more, that pass
                computes it once more, with the same result.

        Returns:
            Tuple[Tensor, Tensor]: Shape (tokens of all items, width) and (items, width).
        """
        vectors = torch.zeros(int(lengths.sum()), self.width, device=device)
        summaries = torch.zeros(len(lengths), self.width, device=device)
        token, window, position = windows.pairs.T
        token_weights, item_weights = mean_weights(token), mean_weights(windows.item)
        sizes = windows.sizes
        padded = np.minimum(rounded_lengths(sizes, device), self.window) if workers else sizes
        round_counts = workers > 0 and device.type == "cpu"
        batches = list(batches_by_length(padded, self.max_batch_subwords, workers, round_counts=round_counts))
        batch_of = np.empty_like(sizes)
        start = np.empty_like(sizes)  # row at which each window starts in its batch
        for i, batch in enumerate(batches):
            batch_of[batch] = i
            start[batch] = np.arange(len(batch)) * padded[batch[-1]]
        order = np.argsort(batch_of[window], kind="stable")
        bounds = np.searchsorted(batch_of[window[order]], np.arange(len(batches) + 1))
        recompute = not workers and len(windows.ids) > keep

        def read_batch(i: int) -> Tuple[GroupSums, GroupSums]:
            batch, pairs = batches[i], order[bounds[i] : bounds[i + 1]]
            by_item = batch[np.argsort(windows.item[batch], kind="stable")]
            summary = start[by_item] + (sizes[by_item] - 1 if self.template.summary_last else 0)
            with torch.inference_mode() if workers else nullcontext():  # the mode belongs to the worker's thread
                run = partial(self._forward_or_halve, model, windows, batch, int(padded[batch[-1]]), device)
                hidden = recomputed(run, model, device) if recompute else run()
                return (
                    sum_by_group(hidden, start[window[pairs]] + position[pairs], token[pairs], token_weights[pairs]),
                    sum_by_group(hidden, summary, windows.item[by_item], item_weights[by_item]),
                )

        for token_sums, item_sums in side_by_side(read_batch, range(len(batches)), workers):
            token_sums.add_to(vectors)
            item_sums.add_to(summaries)
        return vectors, summaries

    def _forward_or_halve(
        self, model: Callable, windows: Windows, batch: np.ndarray, longest: int, device: torch.device
    ) -> Tensor:
        """`forward`, in two halves if the device runs out of memory.

        Raises:
            UserError: It runs out of memory on a single window.
        """
        try:
            return self.forward(model, windows, batch, longest, device)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise UserError(
                    f"{device} is out of memory on a single window of {longest} subwords; set a smaller "
                    f'components.transformer.model.window, another device, or precision = "bf16"'
                ) from error
        torch.cuda.empty_cache()  # here, where the exception no longer keeps the failed allocation alive
        halves = batch[: len(batch) // 2], batch[len(batch) // 2 :]
        return torch.cat([self._forward_or_halve(model, windows, half, longest, device) for half in halves])

    def forward(self, model: Callable, windows: Windows, batch: np.ndarray, longest: int, device: torch.device) -> Tensor:
        """The hidden states of the top layers of a padded batch of windows, as rows: (windows * longest, width)."""
        mask = windows.mask(batch, longest)
        ids = np.full(mask.shape, self.pad_id, dtype=np.int64)
        ids[mask] = windows.ids[windows.rows(batch)]
        inputs = {"input_ids": upload(ids, device)}
        # Given a mask of (batch, length), some architectures ask the device whether it masks anything, and a GPU has to answer.
        broadcast = self.broadcasts_mask and (device.type != "cpu" or not mask.all())
        inputs["attention_mask"] = upload((mask[:, None] if broadcast else mask).astype(np.int64), device)
        if self.accepts_types:
            prompt_sizes = windows.prompt_sizes[batch][:, None]
            text_type = np.where(prompt_sizes > 0, self.template.text_type, 0)
            types = np.where(np.arange(longest) < prompt_sizes, self.template.prompt_type, text_type) * mask
            inputs["token_type_ids"] = upload(types, device)
        with plan_free_attention(device):
            if self.top_layers == 1:
                return model(**inputs).last_hidden_state.float().flatten(0, 1)
            output = model(**inputs, output_hidden_states=True)
            below = output.hidden_states[-self.top_layers : -1]
            return torch.cat([output.last_hidden_state, *reversed(below)], -1).float().flatten(0, 1)
