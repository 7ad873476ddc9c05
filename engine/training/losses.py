"""What the training minimises."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

ENTROPY = 0.3
"""Weight of the cross-entropy of alpha."""
FINE_ENTROPY = 0.05
"""The same where the refinement learns alone."""


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


def matting_loss(
    alpha: Tensor, foreground: Tensor, doubt: Tensor, true_alpha: Tensor, true_foreground: Tensor
) -> tuple[Tensor, Tensor]:
    """Total loss, and the mean absolute difference of alpha (detached, for the log).

    The foreground counts only where it is seen (alpha above 0.02). `doubt`, at any smaller size,
    learns the error that alpha has there.
    """
    errors = (alpha - true_alpha).abs()
    seen = (true_alpha > 0.02).float()
    colour = ((foreground - true_foreground).abs() * seen).sum() / (3 * seen.sum() + 1)
    expected = F.adaptive_avg_pool2d(errors.detach(), (doubt.shape[2], doubt.shape[3]))
    loss = alpha_loss(alpha, true_alpha) + 0.4 * colour
    return loss + F.mse_loss(doubt, expected), errors.detach().mean()


def temporal_loss(alpha: Tensor, true_alpha: Tensor, frames: int) -> Tensor:
    """L1 of the change from frame to frame, of (clips * frames, 1, H, W): what flickers without
    moving costs, what moves with the person does not."""
    change, wanted = (x.reshape(-1, frames, *x.shape[1:]).diff(dim=1) for x in (alpha, true_alpha))
    return (change - wanted).abs().mean()
