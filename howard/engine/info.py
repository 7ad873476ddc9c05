"""`python -m howard.engine info`: what one pastes into a bug report."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from howard import __version__
from howard.cuda import cupy
from howard.errors import DeviceError, WeightsError
from howard.matte import DEFAULT_NETWORK, default_weights
from howard.matte.plan import sha256
from howard.matte.runner import check_runners

PACKAGES = "numpy opencv-contrib-python-headless av isal onnxruntime tyro rich".split()
FOR_A_GPU = (
    *("torch", "cupy-cuda13x", "cupy-cuda12x", "nvidia-dali-cuda130", "nvidia-dali-cuda120"),
    *("tensorrt-cu13", "tensorrt", "onnxruntime-gpu"),
)
"""Told of where they are installed."""


def info() -> dict[str, str]:
    """Names and values, in the order in which they are worth reading."""
    cores = len(os.sched_getaffinity(0))
    rows = {
        "howard": __version__,
        "device": device(),
        "processor": processor(),
        "threads": f"{cores} (cores that this process may use)",
        "python": platform.python_version(),
        "platform": platform.platform(),
        "weights": weights(),
    }
    for package in (*PACKAGES, *FOR_A_GPU):
        try:
            rows[package] = version(package)
        except PackageNotFoundError:
            if package in PACKAGES:
                rows[package] = "not installed"
    return rows


def device() -> str:
    """What `--device auto` takes."""
    try:
        cp = cupy()
        check_runners(DEFAULT_NETWORK)
    except DeviceError as error:
        return f"cpu ({error})"
    return "gpu, " + cp.cuda.runtime.getDeviceProperties(0)["name"].decode()


def processor() -> str:
    """The processor's own name where the system tells it."""
    try:
        with open("/proc/cpuinfo") as file:
            names = (line.split(":")[1].strip() for line in file if line.startswith("model name"))
            return next(names, platform.machine())
    except OSError:
        return platform.processor() or platform.machine()


def weights() -> str:
    """The default network's file, with its digest."""
    try:
        file = default_weights()
    except WeightsError as error:
        return str(error)
    return f"{file.name} sha256 {sha256(file)[:16]}"
