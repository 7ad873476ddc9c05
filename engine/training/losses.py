"""What the training minimises."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

ENTROPY = 0.3
"""Weight of the cross-entropy of alpha."""
FINE_ENTROPY = 0.05
"""The same at the end, and where the refinement learns alone."""
OUTLINE = 5
"""Pixels of the base: side of the squares whose mean colours tell what a step should be."""
OUTLINE_SHARE = 0.1
"""Of such a square, person and place must each fill."""


def laplacian_loss(predicted: Tensor, true: Tensor, levels: int = 4, growth: float = 2.0) -> Tensor:
    """L1 over a Laplacian pyramid, each level weighing `growth` times the finer one, as in Hou &
    Liu 2019."""
    loss = predicted.new_zeros(())
    for level in range(levels):
        below_p, below_t = F.avg_pool2d(predicted, 2), F.avg_pool2d(true, 2)
        up = lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)  # noqa: E731
        detail = (predicted - up(below_p)) - (true - up(below_t))
        loss = loss + detail.abs().mean() * growth**level
        predicted, true = below_p, below_t
    return loss


def alpha_loss(
    alpha: Tensor,
    true_alpha: Tensor,
    levels: int = 4,
    growth: float = 2.0,
    entropy: float = ENTROPY,
) -> Tensor:
    """L1, of the pyramid too, and the cross-entropy: that is there for what alpha is sure of and
    wrong about, since through the sigmoid the differences have no gradient there."""
    loss = (alpha - true_alpha).abs().mean() + laplacian_loss(alpha, true_alpha, levels, growth)
    return loss + entropy * F.binary_cross_entropy(alpha, true_alpha.clamp(0, 1))


def fine_loss(alpha: Tensor, true_alpha: Tensor) -> Tensor:
    """The same for a refinement: coarse levels, which it cannot mend, weigh no more than fine ones;
    and little cross-entropy, which makes haze of whatever may be a strand and may be none."""
    return alpha_loss(alpha, true_alpha, levels=3, growth=1.0, entropy=FINE_ENTROPY)


def outline_loss(
    step: Tensor, frame: Tensor, true_alpha: Tensor, true_foreground: Tensor
) -> Tensor:
    """L1 of the base's step of colours, foreground - background, along the outlines of people.

    The foreground alone teaches it nothing where alpha is 0 or 1, though the refinement needs it on
    both sides: there the difference of the mean colours of person and place is what it should be.
    """
    mean = lambda x: F.avg_pool2d(x, OUTLINE, 1, OUTLINE // 2)  # noqa: E731
    person, place = mean(true_alpha), mean(1 - true_alpha)
    of_person = true_alpha * true_foreground
    wanted = mean(of_person) / person.clamp_min(OUTLINE_SHARE)
    wanted = wanted - mean(frame - of_person) / place.clamp_min(OUTLINE_SHARE)
    both = ((person > OUTLINE_SHARE) & (place > OUTLINE_SHARE)).float()
    return ((step - wanted).abs() * both).sum() / (3 * both.sum() + 1)


def matting_loss(
    alpha: Tensor,
    foreground: Tensor,
    doubt: Tensor,
    true_alpha: Tensor,
    true_foreground: Tensor,
    part: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Total loss, and the mean absolute difference of alpha (detached, for the log).

    The foreground counts only where it is seen (alpha above 0.02). `doubt`, at any smaller size,
    learns the error that alpha has there. part: of the training, done; at its end alpha's loss has
    equal levels and little cross-entropy, as `fine_loss`.
    """
    errors = (alpha - true_alpha).abs()
    seen = (true_alpha > 0.02).float()
    colour = ((foreground - true_foreground).abs() * seen).sum() / (3 * seen.sum() + 1)
    expected = F.adaptive_avg_pool2d(errors.detach(), (doubt.shape[2], doubt.shape[3]))
    entropy = ENTROPY + part * (FINE_ENTROPY - ENTROPY)
    loss = alpha_loss(alpha, true_alpha, growth=2 - part, entropy=entropy) + 0.4 * colour
    return loss + F.mse_loss(doubt, expected), errors.detach().mean()


def temporal_loss(alpha: Tensor, true_alpha: Tensor, frames: int) -> Tensor:
    """L1 of the change from frame to frame, of (clips * frames, 1, H, W): what flickers without
    moving costs, what moves with the person does not."""
    change, wanted = (x.reshape(-1, frames, *x.shape[1:]).diff(dim=1) for x in (alpha, true_alpha))
    return (change - wanted).abs().mean()
