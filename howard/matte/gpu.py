"""The matting network on the GPU: inputs prepared, network run, nothing waited for.

`device_inputs.py` prepares, a `Runner` runs the network (`runner.py` chooses which), and the
mattes stay in device memory as the network left them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from howard import cuda
from howard.cuda import kernel, read_back
from howard.errors import DeviceMemoryError
from howard.frames import Frame, Noun, Plate
from howard.matte.cpu import DOUBT, DOUBTFUL
from howard.matte.device_inputs import Array, DeviceInputs, Needs, needs_of
from howard.matte.runner import Runner, RunnerName, Wanted, open_runner

BLOCK = (256,)
"""Threads of kernels that sum over a picture."""


@dataclass(frozen=True, repr=False, eq=False)
class DeviceMatte(Noun):
    """Alpha together with foreground, in device memory.

    Its pictures are the network's own buffers: read them (on the same stream) before the
    network is called again.
    """

    alpha: Array
    """(1, H', W') float16 opacity in [0, 1], padded at the right and below."""
    foreground: Array
    """(3, H', W') float16 straight RGB in [0, 1], padded likewise."""
    width: int
    """Of the frame."""
    height: int
    """Of the frame."""
    confidence: Array
    """(1,) float32, as `Matte.confidence`. Its own memory: download it with the picture."""
    doubt: Array | None = None
    """(1, h, w) float16, as `Matte.doubt`, of the padded picture; the network's own buffer too."""


class DeviceMattingNetwork:
    """Frames and plates whose pixels are in device memory -> mattes there, on CuPy's stream."""

    def __init__(self, runner: Runner, needs: Needs, warnings: Sequence[str] = ()) -> None:
        self.runner, self.needs = runner, needs
        self.warnings = list(warnings)
        """What the user should know of the choice of the runner."""
        self.inputs: DeviceInputs | None = None

    def __call__(self, frames: Sequence[Frame], plates: Sequence[Plate]) -> list[DeviceMatte]:
        """One matte per frame; all frames of a call have one size. Does not synchronise. The
        first call with a size, or with more frames than before, allocates: raises
        DeviceMemoryError where there is not enough, and takes fewer frames after that."""
        height, width = frames[0].pixels.shape[:2]
        try:
            return self.mattes(frames, plates, width, height)
        except MemoryError as error:  # CuPy's is one, and so is DeviceMemoryError
            reason = str(error).splitlines()[0]
        # Here, since the error held what had been allocated.
        self.inputs = None
        self.runner.forget()
        cuda.cupy().get_default_memory_pool().free_all_blocks()
        raise DeviceMemoryError(
            f"the GPU has too little memory for {len(frames)} frames of {width}x{height} at once "
            f"({reason}): give a smaller --batch, or --device cpu"
        )

    def mattes(
        self, frames: Sequence[Frame], plates: Sequence[Plate], width: int, height: int
    ) -> list[DeviceMatte]:
        inputs = self.inputs_for(len(frames), width, height)
        for slot, (frame, plate) in enumerate(zip(frames, plates, strict=True)):
            unaligned = plate.unaligned if plate.alignment.coverage < 1 else None
            inputs.put(slot, frame.pixels, plate.pixels, plate.coverage, unaligned)
        outputs = self.runner(inputs.feeds(len(frames)))
        confidences = self.confidences(outputs, len(frames))
        doubts = outputs.get(DOUBT, [None] * len(frames))
        found = zip(outputs["alpha"], outputs["foreground"], doubts, strict=True)
        return [
            DeviceMatte(alpha, foreground, width, height, confidences[n : n + 1], doubt)
            for n, (alpha, foreground, doubt) in enumerate(found)
        ]

    def inputs_for(self, batch: int, width: int, height: int) -> DeviceInputs:
        """The buffers in hand, or new ones where they are too few or of another size."""
        held = self.inputs
        if held is None or held.size != (width, height) or held.batch < batch:
            self.inputs = held = None  # what they took is free for the next ones
            self.inputs = held = DeviceInputs(self.needs, batch, width, height)
        return held

    def confidences(self, outputs: dict[str, Array], count: int) -> Array:
        """(count,) float32; 1 from a network that tells no doubt."""
        cp = cuda.cupy()
        if DOUBT not in outputs:
            return cp.ones(count, cp.float32)
        doubt, confidences = outputs[DOUBT], cp.empty(count, cp.float32)
        args = doubt.view(cp.uint16), doubt.size // count, np.float32(DOUBTFUL), confidences
        kernel("pack", "tell_confidence")((1, 1, count), BLOCK, args)
        return confidences


def confidences(mattes: Sequence[DeviceMatte]) -> list[float]:
    """Of each, on the host; waits for them."""
    return read_back(cuda.cupy().concatenate([matte.confidence for matte in mattes])).tolist()


def copied(matte: DeviceMatte) -> DeviceMatte:
    """In memory of its own."""
    doubt = None if matte.doubt is None else matte.doubt.copy()
    alpha, foreground = matte.alpha.copy(), matte.foreground.copy()
    return replace(matte, alpha=alpha, foreground=foreground, doubt=doubt)


def open_device_network(choice: RunnerName, wanted: Wanted) -> DeviceMattingNetwork:
    """The network on this machine's GPU, by the runner that the user chose or the best there is.

    Call it with the stream current that the network will run on. Raises WeightsError for weights
    that cannot be used, DeviceError where no runner can run them.
    """
    needs = needs_of(wanted.weights)
    runner, warnings = open_runner(choice, wanted)
    return DeviceMattingNetwork(runner, needs, warnings)


__all__ = ["DeviceMatte", "DeviceMattingNetwork", "Wanted", "open_device_network"]
