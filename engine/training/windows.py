"""One part alone, the refinement or the detail: it learns on windows around outlines, where it has
something to mend, and on some within people, where it must leave everything as it is.

In a loss over whole pictures what only the base can mend outweighs them, and most of the work is
spent where base and truth agree. What comes before the part that learns learns no more meanwhile.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.networks import HowardNetwork
from engine.networks.layers import resize_like
from engine.training.losses import fine_loss
from engine.training.precision import autocast

SIDE = 192
"""Of a window, in pixels at full size: even at the base's, for every ratio that there is."""
WINDOWS = 6
"""Of each picture, around outlines."""
WITHIN = 3
"""Of each picture, within people."""
HOPELESS = 0.05
"""Mean error of the base's alpha in a window from which on nothing can be learnt from it."""
KEPT = 2000
"""Windows that are kept: about a gigabyte and a half."""
DRAWN = 20
"""Windows of one update."""
SOME = 16
"""Windows that the refinement looks at together."""


class Window(NamedTuple):
    """What the refinement gets and what it should say: (C, H, W) tensors, or (N, C, H, W) of N."""

    true_alpha: Tensor
    frame: Tensor
    plate: Tensor
    logits: Tensor
    """Of the base, at its size."""
    hidden: Tensor
    """Features of the base, at half of its size."""
    logit: Tensor
    """Of alpha, by the refinement; empty while that learns."""


class Windows:
    """Windows of the latest scenes with what the base, which no longer changes, says of them: a
    scene costs far more than an update of the refinement, and serves several."""

    def __init__(self, alone: str = "refinement") -> None:
        """alone: for which part."""
        self.alone = alone
        self.kept: deque[Window] = deque(maxlen=KEPT)

    def add(self, network: HowardNetwork, batch: tuple[Tensor, ...]) -> None:
        """The windows of a batch. Of those that the base has wrong it takes none, unless it has no
        others."""
        true_alpha, _, frame, plate, *small = batch
        ratio = frame.shape[3] // small[0].shape[3]
        with torch.no_grad(), autocast(frame.device):
            logits, hidden, _ = network.look(*small)
        side = min(SIDE // ratio, *(length // 2 * 2 for length in small[0].shape[2:]))
        places = chosen_places(true_alpha, ratio, side)
        cut = lambda x, scale: windows(x, places, side, scale)  # noqa: E731
        pictures = [cut(x, ratio) for x in (true_alpha, frame, plate)]
        base = [cut(logits, 1), cut(hidden, 0.5)]
        coarse = torch.sigmoid(resize_like(base[0][:, :1].float(), pictures[0]))
        useful = (coarse - pictures[0]).abs().mean((1, 2, 3)) < HOPELESS
        refined = len(useful) * [torch.empty(0)]
        if self.alone == "detail":
            parts = zip(*(x.split(SOME) for x in (*pictures[1:], *base)), strict=True)
            with torch.no_grad():
                refined = [x for part in parts for x in refined_logit(network, *part)]
        stored = (*pictures, *base, refined)
        found = [Window(*(x.half() for x in parts)) for parts in zip(*stored, strict=True)]
        chosen = [x for x, good in zip(found, useful.tolist(), strict=True) if good]
        # Of their own, or each would hold the memory of its whole batch.
        kept = chosen or ([] if self.kept else found)
        self.kept.extend(Window(*(part.clone() for part in x)) for x in kept)

    def draw(self) -> Window:
        """At most DRAWN windows of one shape, at random."""
        shape = shapes(self.kept[int(torch.randint(len(self.kept), ()))])
        alike = [x for x in self.kept if shapes(x) == shape]
        drawn = [alike[i] for i in torch.randperm(len(alike))[:DRAWN].tolist()]
        return Window(*(torch.stack(x).float() for x in zip(*drawn, strict=True)))


def shapes(window: Window) -> tuple[torch.Size, torch.Size]:
    """At full size and at the base's."""
    return window.frame.shape, window.logits.shape


def refined_logit(
    network: HowardNetwork, frame: Tensor, plate: Tensor, logits: Tensor, hidden: Tensor
) -> Tensor:
    """What the refinement says of windows."""
    step = resize_like(logits[:, 1:], frame)
    with autocast(step.device):
        logit: Tensor = network.refinement(frame, plate, logits, step, hidden)
    return logit.float()


def window_loss(network: HowardNetwork, batch: Window, alone: str) -> tuple[Tensor, Tensor]:
    """Loss of the part that learns `alone`, and alpha's mean absolute difference in the windows."""
    frame, plate = batch.frame, batch.plate
    if alone == "refinement":
        alpha = torch.sigmoid(refined_logit(network, frame, plate, batch.logits, batch.hidden))
    else:
        assert network.detail is not None  # what is trained is never the quick one
        alpha = network.detail(frame, plate, batch.logit)
    difference = (alpha - batch.true_alpha).abs().mean().detach()
    return fine_loss(alpha, batch.true_alpha), difference


def chosen_places(true_alpha: Tensor, ratio: int, side: int) -> list[tuple[int, int, int]]:
    """Picture, row and column of windows of `side`, in pixels of the base, all even; where nobody
    is in any picture, at its corner. true_alpha: (N, 1, H, W)."""
    mixed = ((true_alpha > 0.02) & (true_alpha < 0.98)).float()
    outlines = F.max_pool2d(mixed, 2 * ratio)[:, 0].nonzero()
    within = (F.avg_pool2d(true_alpha, 2 * ratio)[:, 0] > 0.98).nonzero()
    height, width = (length // ratio for length in true_alpha.shape[2:])
    start = lambda at, length: max(0, min(2 * at - side // 2, length - side)) // 2 * 2  # noqa: E731
    places = []
    for found, count in ((outlines, WINDOWS), (within, WITHIN)):
        if len(found):
            chosen = found[torch.randint(len(found), (count * len(true_alpha),))].tolist()
            places += [(n, start(y, height), start(x, width)) for n, y, x in chosen]
    return places or [(picture, 0, 0) for picture in range(len(true_alpha))]


def windows(
    pictures: Tensor, places: list[tuple[int, int, int]], side: int, scale: float
) -> Tensor:
    """Cut from (N, C, H, W), whose pixels are `scale` to one of the base."""
    length = int(side * scale)
    corners = [(n, int(y * scale), int(x * scale)) for n, y, x in places]
    return torch.stack([pictures[n, :, y : y + length, x : x + length] for n, y, x in corners])
