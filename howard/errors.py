"""Every error that Howard raises on purpose, as one tree:

    HowardError
    ├── ConfigError        an option is wrong                              (also ValueError)
    ├── InputError         a video or an image cannot be used              (also ValueError)
    │   └── InputMissing   it is not there                                 (also FileNotFoundError)
    ├── OutputError        the output cannot be written                    (also OSError)
    ├── WeightsError       a network's weights or model cannot be used     (also ValueError)
    └── DeviceError        the device or one of its libraries is missing   (also RuntimeError)
        └── DeviceMemoryError  it has too little memory                    (also MemoryError)

The message is one line that names what, with which value, and the remedy. The command
line prints it and exits with status 2, as it does where a library says that memory is short; any
other exception is a bug and shows a traceback.
"""

from __future__ import annotations

MEMORY_WORDS = "Insufficient memory", "allocate memory", "bad_alloc", "out of memory"
"""In what OpenCV, ONNX Runtime, the system and CUDA say; most have no kind of error for it."""


class HowardError(Exception):
    """Base of all: `except HowardError` catches what a user can mend."""

    def __str__(self) -> str:
        # OSError's own __str__ would print the errno tuple.
        return str(self.args[-1]) if self.args else type(self).__name__


class ConfigError(HowardError, ValueError):
    """An option is out of range, unknown, or contradicts another."""


class InputError(HowardError, ValueError):
    """A video, an image or a folder of images cannot be used."""


class InputMissing(InputError, FileNotFoundError):
    """The input does not exist."""


class OutputError(HowardError, OSError):
    """The output folder cannot be made, written, or belongs to another run."""


class WeightsError(HowardError, ValueError):
    """A network's weights are missing, damaged, or of another shape."""


class DeviceError(HowardError, RuntimeError):
    """The chosen device, or a library that it needs, is not there."""


class DeviceMemoryError(DeviceError, MemoryError):
    """The device has not enough memory for what was asked of it at once."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, of whichever library, says that memory is used up."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in MEMORY_WORDS)
