"""Training of the context-switching network: the paper's supervised stage (section 3.1), on our
scenes. Its second stage, adversarial and without truth, is not here.

Each scene is cropped around the person and enlarged as the run side does it, its true alpha made a
soft segmentation as there or at random, and the loss, the paper's in the authors' ranges, is of a
window of that. They took Adam at a rate of 1e-4 and batches of 4 whole crops of 512 x 512. The
larger scenes serve best: `--people-share 0 --base-share 0 --edges-share 0`.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.networks.context_switching import SIDE, ContextSwitching
from engine.training.precision import autocast
from howard.matte.context_switching import MARGIN, Alpha, person_box, resize, soft_segmentation
from howard.matte.holes import fill_holes

WINDOW = 192
"""Height and width of what is learnt of a crop, about what a pixel of alpha sees (the blocks reach
some 90 pixels around it): a seventh of the crop's time. Smaller crops instead would show people of
another size than at run time."""
AS_RUN = 0.5
"""Share of the segmentations made as at run time, whose edges are the person's. The rest are as in
the paper, and reach some 15 pixels beyond: by them alone a network would learn to cut that off."""
ENTROPY = 1.0
"""Weight of the cross-entropy of alpha, which the paper has not. By L1 alone a new network takes
all for transparent within thirty steps at a rate of 1.5e-3, and stays so: there tanh is flat."""
SOBEL = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])


def supervised_loss(network: ContextSwitching, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Equation of the paper's supervised stage: alpha, its gradient, foreground where it is seen,
    composition; with our cross-entropy. And the mean absolute difference of alpha in [0, 1]
    (detached, for the log)."""
    rng = np.random.default_rng(int(torch.randint(2**62, ())))
    whole = crops(batch, lambda alpha: segmentation_for(alpha, rng), rng.uniform(MARGIN, 0.4))
    top, left = rng.integers(SIDE - WINDOW + 1, size=2)
    cut = (x[..., top : top + WINDOW, left : left + WINDOW] for x in whole)
    frame, plate, true_foreground, true_alpha, segmentation = cut
    behind = background(frame, plate, true_foreground, true_alpha)
    image, back, mixed, wanted, truth, soft = (
        2 * x - 1 for x in (frame, plate, behind, true_foreground, true_alpha, segmentation)
    )
    with autocast(frame.device):
        unbounded, foreground = network.unbounded(image, back, soft)
    unbounded, foreground = unbounded.float(), foreground.float()
    alpha = torch.tanh(unbounded)
    everywhere, seen = torch.ones_like(truth), (truth > -0.99).float()
    opacity, colour = (alpha + 1) / 2, torch.where(alpha > 0.95, image, foreground)
    composition = opacity * colour + (1 - opacity) * mixed
    loss = (
        l1(alpha, truth, everywhere)
        + l1(gradient(alpha), gradient(truth), everywhere)
        + 2 * l1(foreground, wanted, seen)
        + l1(composition, image, everywhere)
        + ENTROPY * F.binary_cross_entropy_with_logits(2 * unbounded, true_alpha.clamp(0, 1))
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
    (N, C, SIDE, SIDE) in [0, 1], around the person; of the whole picture where there is nobody."""
    alpha, foreground, frame, plate, *_, covered = batch
    covered = F.interpolate(covered, size=frame.shape[2:])
    everything = torch.cat([frame, plate, foreground, alpha, covered], 1)
    rows = []
    for scene in everything.permute(0, 2, 3, 1).cpu().numpy():
        known = (scene[..., 10] > 0).astype(np.uint8)
        scene[..., 3:6], _ = fill_holes(scene[..., 3:6], known)
        box = person_box(scene[..., 9], margin) or np.s_[:, :]
        parts = np.split(scene[box][..., :10], [3, 6, 9], axis=2)  # OpenCV averages four at most
        cut = np.dstack([resize(np.ascontiguousarray(x), (SIDE, SIDE)) for x in parts])
        rows.append(np.dstack([cut, segment(cut[..., 9])]))
    stacked = torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).to(frame.device)
    return stacked.split([3, 3, 3, 1, 1], 1)


def segmentation_for(alpha: Alpha, rng: np.random.Generator) -> Alpha:
    """(SIDE, SIDE) true alpha -> the run side's segmentation, had the coarse matte been right, or a
    random one."""
    return soft_segmentation(alpha) if rng.random() < AS_RUN else random_segmentation(alpha, rng)


def random_segmentation(alpha: Alpha, rng: np.random.Generator) -> Alpha:
    """(SIDE, SIDE) true alpha -> what a segmenter might have said: eroded in 10 to 20 steps of 2
    pixels, dilated in 15 to 30, blurred over 21 to 41 pixels."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    erosions, dilations = int(rng.integers(10, 20)), int(rng.integers(15, 30))
    person = cv2.erode((alpha > 0.5).astype(np.float32), disc, iterations=erosions)
    person = cv2.dilate(person, disc, iterations=dilations)
    blur = 2 * int(rng.integers(10, 21)) + 1
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
