"""The refinement alone: it learns on windows around outlines, where it has something to mend.

In a loss over whole pictures what only the base can mend outweighs them, and most of the work is
spent where base and truth agree. The base, which sees the whole picture, learns no more meanwhile.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.networks import HowardNetwork
from engine.networks.howard import resize_like
from engine.training.losses import alpha_loss

SIDE = 192
"""Of a window, in pixels at full size: even at the base's, for every ratio up to 4."""
WINDOWS = 8
"""Of each picture."""
HOPELESS = 0.05
"""Mean error of the base's alpha in a window from which on nothing can be learnt from it."""


def refinement_loss(network: HowardNetwork, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Loss of the windows of one batch, and alpha's mean absolute difference in them."""
    true_alpha, _, frame, plate, *small = batch
    ratio = frame.shape[3] // small[0].shape[3]
    with torch.no_grad(), torch.autocast(frame.device.type, torch.bfloat16):
        logits, hidden, _ = network.base(*small)
    side = min(SIDE // ratio, *(length // 2 * 2 for length in small[0].shape[2:]))
    places = around_outlines(true_alpha, ratio, side)
    cut = lambda x, scale: windows(x, places, side, scale)  # noqa: E731
    pictures = [cut(x, ratio) for x in (true_alpha, frame, plate)]
    base = [cut(logits, 1), cut(hidden, 0.5)]
    coarse = torch.sigmoid(resize_like(base[0][:, :1].float(), pictures[0]))
    kept = (coarse - pictures[0]).abs().mean((1, 2, 3)) < HOPELESS
    if not kept.any():
        kept[:] = True
    true, near, behind, logits, hidden = (x[kept] for x in (*pictures, *base))
    step = resize_like(logits[:, 1:], near)
    with torch.autocast(frame.device.type, torch.bfloat16):
        logit = network.refinement(near, behind, logits, step, hidden)
    alpha = torch.sigmoid(logit.float())
    return alpha_loss(alpha, true), (alpha - true).abs().mean().detach()


def around_outlines(true_alpha: Tensor, ratio: int, side: int) -> list[tuple[int, int, int]]:
    """Picture, row and column of windows of `side`, in pixels of the base, all even; where nobody
    is in any picture, at its corner. true_alpha: (N, 1, H, W)."""
    mixed = ((true_alpha > 0.02) & (true_alpha < 0.98)).float()
    found = F.max_pool2d(mixed, 2 * ratio)[:, 0].nonzero()
    if not len(found):
        return [(picture, 0, 0) for picture in range(len(true_alpha))]
    chosen = found[torch.randint(len(found), (WINDOWS * len(true_alpha),))].tolist()
    height, width = (length // ratio for length in true_alpha.shape[2:])
    start = lambda at, length: max(0, min(2 * at - side // 2, length - side)) // 2 * 2  # noqa: E731
    return [(n, start(y, height), start(x, width)) for n, y, x in chosen]


def windows(
    pictures: Tensor, places: list[tuple[int, int, int]], side: int, scale: float
) -> Tensor:
    """Cut from (N, C, H, W), whose pixels are `scale` to one of the base."""
    length = int(side * scale)
    corners = [(n, int(y * scale), int(x * scale)) for n, y, x in places]
    return torch.stack([pictures[n, :, y : y + length, x : x + length] for n, y, x in corners])
