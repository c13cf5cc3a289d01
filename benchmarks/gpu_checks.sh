#!/usr/bin/env bash
# Everything that only a GPU can show, as one command:
#
#   benchmarks/gpu_checks.sh OUTPUT [WHEELS]
#
# What is installed, `laglite verify` on every backend and precision, the tests of GPUs, and the
# benchmark within BUDGET seconds (300). OUTPUT gets a log for each step, the benchmark's results and
# summary.txt: a line a step with its exit status and seconds. A step that fails, or passes its
# limit, does not keep the others from running; the exit status is 1 if one did.
#
# With WHEELS, a folder, it makes a virtual environment and installs from there alone, without a
# network. Else PYTHON (python3) runs this checkout with what it has. REQUIRE (cuda) lists
# backends, separated by commas, whose tests must not be skipped.
set -uo pipefail

if [ $# -lt 1 ]; then
  echo "usage: $0 OUTPUT [WHEELS]" >&2
  exit 2
fi
mkdir -p "$1" || exit 1
output=$(cd "$1" && pwd)
checkout=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
export PYTHONPATH=$checkout/runtime:$checkout/train:$checkout/export
export LAGLITE_ENGINES=$output/engines
failed=0
: >"$output/summary.txt"

# step NAME LIMIT COMMAND...: runs it, at most LIMIT seconds, into NAME.log.
step() {
  local name=$1 limit=$2 begin=$SECONDS status
  shift 2
  timeout --kill-after=10 "$limit" "$@" >"$output/$name.log" 2>&1
  status=$?
  [ $status -eq 0 ] || failed=1
  printf '%-32s exit %3d  %4d s\n' "$name" $status $((SECONDS - begin)) | tee -a "$output/summary.txt"
}

if [ $# -gt 1 ]; then
  wheels=$(cd "$2" && pwd) || exit 1
  step environment 60 "$python" -m venv --system-site-packages "$output/venv"
  python=$output/venv/bin/python
  for packages in 'numpy click rich onnxruntime-gpu' 'pytest hypothesis scipy pyarrow pandas' \
    'torch lightning pyyaml onnx' 'tensorrt cuda-python' 'chronos-forecasting'; do
    # shellcheck disable=SC2086  # several words
    step "install-${packages%% *}" 300 "$python" -m pip install --no-index --find-links "$wheels" $packages
  done
fi

cd "$checkout" || exit 1
step nvidia-smi 30 nvidia-smi
step packages 60 "$python" -m pip list
step info 60 "$python" -m laglite info
for precision in fp32 fp16; do
  step "compile-$precision" 300 "$python" -m laglite compile base --precision $precision \
    --context 256 --horizon 64
  for backend in cuda onnxruntime-tensorrt tensorrt; do
    step "verify-$backend-$precision" 120 \
      "$python" -m laglite verify base --backend $backend --precision $precision
  done
done
LAGLITE_GPU=${REQUIRE-cuda} step tests 400 "$python" -m pytest -m gpu tests/runtime/test_gpu.py -rs
budget=${BUDGET:-300}
step benchmark $((budget + 240)) "$python" benchmarks/gpu.py --budget "$budget" \
  --folder "$output/models" --output "$output/gpu.json"
exit $failed
