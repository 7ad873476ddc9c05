#!/usr/bin/env bash
# All that needs a GPU, in one call; leaves its results as files:
#
#   PYTHON=.venv/bin/python tests/gpu/run.sh OUT [STEP...]
#
# Every step runs, whatever became of the others, or those that are named; OUT/summary.txt says how
# each ended and after how long. A step is ended after HOWARD_STEP_SECONDS (by default 540), with
# status 124. Exits with status 1 if one failed; a step whose tool is not there is left out. Copy
# OUT/golden.npz to tests/gpu/golden.npz, and the numbers worth keeping from OUT/*.json to
# benchmarks/results/, and commit them.
#
# What matters most comes first, what takes longest last. Where a call may take 10 minutes, three
# calls; what runs the network needs `exported` before it, unless it is there from a call before:
#
#   HOWARD_STEP_SECONDS=240 tests/gpu/run.sh A machine imports exported device end-to-end-1080p
#   tests/gpu/run.sh A2 plan end-to-end-1080p           (where TensorRT is)
#   tests/gpu/run.sh B exported kernels-1080p stages-1080p end-to-end-480p end-to-end-2160p golden
#   HOWARD_STEP_SECONDS=180 tests/gpu/run.sh C memcheck racecheck synccheck
#
# `suite` is all tests, most of which need no GPU: some ten minutes.
#
# On a machine without a network, HOWARD_WHEELS names a folder with wheels of what it lacks (PyAV,
# say); they go into a folder of their own, which is gone when this ends.
set -uo pipefail
out=${1:?where to leave the results}
only=("${@:2}")
python=${PYTHON:-python3}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/../.."
: > "$out/summary.txt"

say() { # NAME WORDS
  printf '%-20s %s\n' "$1" "$2" | tee -a "$out/summary.txt"
}

is_wanted() { # NAME
  [ ${#only[@]} -eq 0 ] || printf '%s\n' "${only[@]}" | grep -qx -- "$1"
}

step() { # NAME COMMAND...: its output goes to OUT/NAME.log
  local name=$1 status=0 started=$SECONDS limit=(timeout -k 15 "${HOWARD_STEP_SECONDS:-540}")
  shift
  is_wanted "$name" || return 0
  [ "$(type -t "$1")" = function ] && limit=()
  "${limit[@]}" "$@" > "$out/$name.log" 2>&1 || status=$?
  say "$name" "status $status, $((SECONDS - started)) s"
}

step_with() { # TOOL NAME COMMAND...: left out if there is no such tool
  local tool=$1
  shift
  if command -v "$tool" > /dev/null; then
    step "$@"
  elif is_wanted "$1"; then
    say "$1" "left out: there is no $tool"
  fi
}

machine() { # what there is: GPU, driver, versions, and the video libraries that the driver mounts
  nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv || true
  nproc
  "$python" --version
  "$python" -m pip list
  ldconfig -p | grep -E 'libnvcuvid|libnvidia-encode|libcuda\.so' || true
  ls /usr/local/nvidia/lib64 2> /dev/null | grep -E 'nvcuvid|nvidia-encode' || true
}

imports() { # which libraries can be imported, each in a process of its own: some end it
  local module said status
  for module in av cv2 cv2.ximgproc isal tyro rich onnx cupy nvidia.dali PyNvVideoCodec tensorrt torch onnxruntime; do
    status=0
    said=$(timeout -k 5 60 "$python" -c 'import importlib, sys
module = importlib.import_module(sys.argv[1])
print(getattr(module, "__version__", "of no version"))' "$module" 2>&1 | tail -n 1) || status=$?
    printf '%-16s status %-4s %s\n' "$module" "$status" "$said"
  done
}

install_wheels() { # all at once; if one of them does not suit this Python, each by itself
  local wheel status=0 pip=("$python" -m pip install --no-index --no-deps --target "$site")
  "${pip[@]}" "$HOWARD_WHEELS"/*.whl && return
  for wheel in "$HOWARD_WHEELS"/*.whl; do
    "${pip[@]}" "$wheel" || status=$?
  done
  return "$status"
}

export HOWARD_REQUIRE_GPU=1
export PATH="$PATH:/usr/local/cuda/bin"
if [ -n "${HOWARD_WHEELS:-}" ]; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  install_wheels > "$out/wheels.log" 2>&1 || say wheels "some were not installed, see wheels.log"
  export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
more=${PYTHONPATH:+:$PYTHONPATH}

step machine machine
step imports imports
# What runs the network: a plan where TensorRT is, else torch's program.
has_tensorrt='import importlib.util, sys; sys.exit(importlib.util.find_spec("tensorrt") is None)'
if is_wanted plan && "$python" -c "$has_tensorrt" > /dev/null 2>&1; then
  step plan "$python" build_engine.py --plan --opt 1920x1080 --max 3840x2160
elif is_wanted plan; then
  say plan "left out: there is no TensorRT"
fi
step exported "$python" build_engine.py --exported
tests=("$python" -m pytest -rs --continue-on-collection-errors -o faulthandler_timeout=120)
step device "${tests[@]}" tests/gpu tests/test_kernels.py tests/test_decode_gpu.py \
  tests/test_matting.py -k "[gpu or a_gpu_reads or pycuda_array" --junitxml="$out/device.xml"
step kernels-1080p "$python" -m benchmarks.kernels --json "$out/kernels-1080p.json"
step stages-1080p "$python" -m benchmarks.stages --device gpu --size 1080p --frames 150 \
  --batches 1 2 4 --json "$out/stages-1080p.json"
for size in 1080p 480p 2160p; do
  frames=150
  [ $size = 2160p ] && frames=60
  step end-to-end-$size "$python" -m benchmarks.end_to_end --device gpu --sizes $size \
    --frames $frames --json "$out/end-to-end-$size.json"
done
step golden env PYTHONPATH=".:tests$more" "$python" tests/gpu/golden.py "$out/golden.npz"
step kernels-2160p "$python" -m benchmarks.kernels --size 2160p --only frames \
  --json "$out/kernels-2160p.json"
step_with nvcc compile "$python" tests/gpu/compile_all.py
for tool in memcheck racecheck synccheck; do
  step_with compute-sanitizer "$tool" compute-sanitizer --tool "$tool" --error-exitcode 3 \
    "$python" -m pytest tests/test_kernels.py -k 'twin_agrees and gpu'
done
step suite "${tests[@]}" --junitxml="$out/suite.xml"
! grep -q 'status [^0]' "$out/summary.txt"
