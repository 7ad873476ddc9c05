"""Compares `faketrt.py` with TensorRT's own bindings; prints what they do not have, a line each.

    LD_LIBRARY_PATH=STUBS python tests/trt_contract.py [CLASS.METHOD ...]

STUBS holds libraries of `trt_stub.c` in the place of TensorRT's, which are 2 GB and not on PyPI:
the bindings load, and have all their classes and signatures, but nothing may be called. Methods
that are named get a wrong parameter first, so that a test can see that this finds it.
"""

from __future__ import annotations

import enum
import inspect
import re
import sys
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import faketrt


def differences(real: Any) -> Iterator[str]:
    for name, fake in vars(faketrt).items():
        if inspect.isclass(fake) and fake.__module__ == "faketrt":
            if hasattr(real, name):
                yield from class_differences(name, fake, getattr(real, name))
            else:
                yield name


def class_differences(name: str, fake: type, real: Any) -> Iterator[str]:
    if issubclass(fake, enum.Enum):
        yield from (f"{name}.{m}" for m in fake.__members__ if m not in real.__members__)
        return
    for member, value in vars(fake).items():
        is_ours = member.startswith("_") or isinstance(value, bytes) or member == "WORKSPACE"
        is_made_by_user = name in ("Logger", "Builder", "OnnxParser", "Runtime")
        if is_ours and not (member == "__init__" and is_made_by_user):
            continue
        if not hasattr(real, member):
            yield f"{name}.{member}"
        elif isinstance(value, FunctionType):
            ours = list(inspect.signature(value).parameters)[1:]
            theirs = [s[1:] for s in signatures(getattr(real, member))]
            if not any(ours == s[: len(ours)] for s in theirs):
                yield f"{name}.{member}({', '.join(ours)}), but {theirs}"


def signatures(method: Any) -> list[list[str]]:
    """Names of the parameters, of each overload, from the text that pybind11 writes."""
    lines = re.findall(rf"^(?:\d+\. )?{method.__name__}\((self.*)\) ->", method.__doc__, re.M)
    return [re.findall(r"(?:^|, )(\w+):", line) for line in lines]


if __name__ == "__main__":
    import tensorrt_bindings

    for name in sys.argv[1:]:
        owner, _, method = name.partition(".")
        setattr(getattr(faketrt, owner), method, lambda self, wrong: None)
    print(f"TensorRT {tensorrt_bindings.__version__}")
    for difference in differences(tensorrt_bindings):
        print(difference)
