"""Run the cases of every kernel on the GPU and keep what comes out.

    PYTHONPATH=.:tests python tests/gpu/golden.py tests/gpu/golden.npz

Committed, the file lets a machine without a GPU compare what its host runner gives with what a GPU
gave (tests/test_kernels.py). Its keys are kernel/case/output, and kernel/case/inputs for a hash.
"""

from __future__ import annotations

import copy
import hashlib
import sys
from typing import Any

import numpy as np
from kernel_cases import CASES, Case
from kernel_runners import Gpu, Host, parameters


def outputs(runner: Gpu | Host, name: str, case: Case) -> dict[str, np.ndarray]:
    """What a kernel makes of a case, by the outputs' names."""
    args = copy.deepcopy(case.args)
    runner(name, case.grid, case.block, args)
    names = [p.name for p in parameters(name)]
    return {output: args[names.index(output)] for output in case.tolerances}


def hash_of(args: list[Any]) -> str:
    """Of all arguments, so that a change of the cases (or of the library that draws them) shows."""
    digest = hashlib.sha256()
    for value in args:
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def main() -> None:
    kept = {}
    for name, cases in CASES.items():
        for number, case in enumerate(cases()):
            kept[f"{name}/{number}/inputs"] = np.array(hash_of(case.args))
            for output, value in outputs(Gpu(), name, case).items():
                kept[f"{name}/{number}/{output}"] = value
    np.savez_compressed(sys.argv[1], **kept)


if __name__ == "__main__":
    main()
