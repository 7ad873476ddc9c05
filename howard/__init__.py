"""Howard cuts a person out of a moving-camera video with the help of a clean plate."""

import os

__version__ = "0.1.0"

# From 1.29 on ONNX Runtime tells its maker about every session, model names included, and writes
# into the home folder; it reads this when it is imported. Who sets it keeps what they set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> object:
    """`howard.Matting`, without loading anything before it is asked for."""
    if name == "Matting":
        from howard.matting import Matting

        return Matting
    raise AttributeError(f"module 'howard' has no attribute {name!r}")
