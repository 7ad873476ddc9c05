"""Howard cuts a person out of a moving-camera video with the help of a clean plate."""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """`howard.Matting`, without loading anything before it is asked for."""
    if name == "Matting":
        from howard.matting import Matting

        return Matting
    raise AttributeError(f"module 'howard' has no attribute {name!r}")
