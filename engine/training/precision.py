"""What the training computes in."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch


def autocast(device: torch.device) -> torch.autocast:
    """To bfloat16, where the device computes in it: a CPU that has to emulate it takes twelve
    times as long as in fp32."""
    return torch.autocast(
        device.type, torch.bfloat16, enabled=device.type != "cpu" or cpu_has_bfloat16()
    )


@functools.cache
def cpu_has_bfloat16() -> bool:
    """Whether its processor computes in it."""
    # An older torch cannot tell: fp32 then.
    found: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
