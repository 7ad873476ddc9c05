#!/usr/bin/env bash
# All that needs a GPU, in one call; leaves its results as files:
#
#   PYTHON=.venv/bin/python tests/gpu/run.sh OUT
#
# Every step runs, whatever became of the others; OUT/summary.txt says how each ended. Exits with
# status 1 if one failed. Copy OUT/golden.npz to tests/gpu/golden.npz and commit it.
set -uo pipefail
out=${1:?where to leave the results}
python=${PYTHON:-python3}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/../.."
: > "$out/summary.txt"

step() { # NAME COMMAND...: its output goes to OUT/NAME.log
  local name=$1 status=0
  shift
  "$@" > "$out/$name.log" 2>&1 || status=$?
  printf '%-12s status %s\n' "$name" "$status" | tee -a "$out/summary.txt"
}

machine() { # what there is: GPU, driver, versions, and the video libraries that the driver mounts
  nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv
  nproc
  "$python" --version
  "$python" -m pip list
  ldconfig -p | grep -E 'libnvcuvid|libnvidia-encode|libcuda\.so' || true
  ls /usr/local/nvidia/lib64 2> /dev/null | grep -E 'nvcuvid|nvidia-encode' || true
}

export HOWARD_REQUIRE_GPU=1
step machine machine
step suite "$python" -m pytest -rs --junitxml="$out/suite.xml"
step golden env PYTHONPATH=.:tests "$python" tests/gpu/golden.py "$out/golden.npz"
step compile "$python" tests/gpu/compile_all.py
for tool in memcheck racecheck synccheck; do
  step "$tool" compute-sanitizer --tool "$tool" --error-exitcode 3 \
    "$python" -m pytest tests/test_kernels.py -k 'twin_agrees and gpu'
done
! grep -qv 'status 0$' "$out/summary.txt"
