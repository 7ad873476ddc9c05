"""Training of the context-switching network: the paper's supervised stage (section 3.1), on our
scenes. Its second stage, adversarial and without truth, is not here.

Each scene is cropped around the person as the run side does it, its true alpha eroded, dilated and
blurred at random for a soft segmentation, and the loss is the paper's, in the authors' ranges. They
took Adam at a rate of 1e-4 and batches of 4 crops of 512 x 512.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.networks.context_switching import MULTIPLE, SIDE, ContextSwitching
from howard.matte.context_switching import MARGIN, Alpha, person_box, resize, soft_segmentation
from howard.matte.holes import fill_holes

SOBEL = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])


def supervised_loss(network: ContextSwitching, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Equation of the paper's supervised stage: alpha, its gradient, foreground where it is seen,
    composition; and the mean absolute difference of alpha in [0, 1] (detached, for the log)."""
    rng = np.random.default_rng(int(torch.randint(2**62, ())))
    cut = crops(batch, lambda alpha: random_segmentation(alpha, rng), rng.uniform(MARGIN, 0.4))
    frame, plate, true_foreground, true_alpha, segmentation = cut
    behind = background(frame, plate, true_foreground, true_alpha)
    image, back, mixed, wanted, truth, soft = (
        2 * x - 1 for x in (frame, plate, behind, true_foreground, true_alpha, segmentation)
    )
    with torch.autocast(frame.device.type, torch.bfloat16):
        alpha, foreground = network.published(image, back, soft)
    alpha, foreground = alpha.float(), foreground.float()
    everywhere, seen = torch.ones_like(truth), (truth > -0.99).float()
    opacity, colour = (alpha + 1) / 2, torch.where(alpha > 0.95, image, foreground)
    composition = opacity * colour + (1 - opacity) * mixed
    loss = (
        l1(alpha, truth, everywhere)
        + l1(gradient(alpha), gradient(truth), everywhere)
        + 2 * l1(foreground, wanted, seen)
        + l1(composition, image, everywhere)
    )
    return loss, (alpha - truth).detach().abs().mean() / 2


def estimate(
    network: ContextSwitching, batch: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """frame, plate, alpha and true alpha of the crops, with the run side's segmentation."""
    frame, plate, _, true_alpha, segmentation = crops(batch, soft_segmentation, MARGIN)
    return frame, plate, network(frame, plate, segmentation)[0], true_alpha


def crops(
    batch: tuple[Tensor, ...], segment: Callable[[Alpha], Alpha], margin: float
) -> tuple[Tensor, ...]:
    """A batch of `engine.training.batches` -> frame, plate, foreground, alpha and segmentation,
    (N, C, S, S) in [0, 1], around the person; of the whole picture where there is nobody."""
    alpha, foreground, frame, plate, *_, covered = batch
    covered = F.interpolate(covered, size=frame.shape[2:])
    side = min(SIDE, max(frame.shape[2:])) // MULTIPLE * MULTIPLE
    everything = torch.cat([frame, plate, foreground, alpha, covered], 1)
    rows = []
    for scene in everything.permute(0, 2, 3, 1).cpu().numpy():
        known = (scene[..., 10] > 0).astype(np.uint8)
        scene[..., 3:6], _ = fill_holes(scene[..., 3:6], known)
        box = person_box(scene[..., 9], margin) or np.s_[:, :]
        cut = resize(np.ascontiguousarray(scene[box][..., :10]), (side, side))
        rows.append(np.dstack([cut, segment(cut[..., 9])]))
    stacked = torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).to(frame.device)
    return stacked.split([3, 3, 3, 1, 1], 1)


def random_segmentation(alpha: Alpha, rng: np.random.Generator) -> Alpha:
    """(S, S) true alpha -> what a segmenter might have said: eroded in 10 to 20 steps of 2 pixels,
    dilated in 15 to 30, blurred over 21 to 41 pixels, all at 512 x 512."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    scale = len(alpha) / SIDE
    erosions, dilations = round(rng.integers(10, 20) * scale), round(rng.integers(15, 30) * scale)
    person = cv2.erode((alpha > 0.5).astype(np.float32), disc, iterations=erosions)
    person = cv2.dilate(person, disc, iterations=dilations)
    blur = round(rng.integers(10, 21) * scale) * 2 + 1
    return np.asarray(cv2.GaussianBlur(person, (blur, blur), 0), np.float32)


def background(frame: Tensor, plate: Tensor, foreground: Tensor, alpha: Tensor) -> Tensor:
    """What the person was composited onto, un-mixed from the frame; the plate where too little of
    it is seen."""
    behind = (frame - alpha * foreground) / (1 - alpha).clamp(min=0.1)
    return torch.where(alpha < 0.9, behind.clamp(0, 1), plate)


def l1(predicted: Tensor, true: Tensor, mask: Tensor) -> Tensor:
    """Absolute difference, summed over the channels, per pixel of the mask (N, 1, H, W)."""
    differences = ((predicted - true).abs() * mask).sum((1, 2, 3))
    return (differences / (mask.sum((1, 2, 3)) + 1e-6)).mean()


def gradient(alpha: Tensor) -> Tensor:
    """(N, 1, H, W) -> (N, 2, H, W), by Sobel's kernels."""
    kernels = torch.stack([SOBEL, SOBEL.T])[:, None].to(alpha.device)
    return F.conv2d(alpha, kernels, padding=1)
