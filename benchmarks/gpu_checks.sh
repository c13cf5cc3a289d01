#!/usr/bin/env bash
# Everything that only a GPU can show, as one command:
#
#   benchmarks/gpu_checks.sh OUTPUT [WHEELS]
#
# What is installed; `laglite verify` and the tests on onnxruntime's CUDA provider, in fp32 and fp16;
# and the benchmark, of whatever runs, in the rest of LIMIT seconds (570). TensorRT's engines take
# minutes: PARTS=tensorrt proves them in a run of their own (PARTS is "cuda benchmark" by default).
# MODEL, such as base, is measured in place of the release configuration, with PyTorch left out.
#
# OUTPUT gets a log for each step, the benchmark's results and summary.txt: a line a step with its
# exit status and seconds, begun when the step begins. A step that fails, or passes its limit (exit
# 124), does not keep the others from running; the exit status is 1 if one did, or had no time.
#
# What is large, such as engines, lies in WORK, a folder (by default one that goes at the end).
#
# With WHEELS, a folder, it makes a virtual environment over the packages that PYTHON has, and
# installs the others from there alone, without a network. Else PYTHON (python3) runs this checkout
# with what it has. REQUIRE (cuda) lists backends, separated by commas, whose tests must not be
# skipped.
set -uo pipefail

if [ $# -lt 1 ]; then
  echo "usage: $0 OUTPUT [WHEELS]" >&2
  exit 2
fi
mkdir -p "$1" || exit 1
output=$(cd "$1" && pwd)
checkout=$(cd "$(dirname "$0")/.." && pwd)
python=$(command -v "${PYTHON:-python3}") || { echo "no ${PYTHON:-python3}" >&2; exit 1; }
[[ $python != [!/]*/* ]] || python=$PWD/$python
require=${REQUIRE-cuda}
parts=" ${PARTS:-cuda benchmark} "
limit=${LIMIT:-570}
export PYTHONPATH=$checkout/runtime:$checkout/train:$checkout/export${PYTHONPATH:+:$PYTHONPATH}
export PYTHONUNBUFFERED=1
if [ -z "${WORK:-}" ]; then
  WORK=$(mktemp -d) || exit 1
  trap 'rm -rf "$WORK"' EXIT
fi
mkdir -p "$WORK" || exit 1
work=$(cd "$WORK" && pwd)
export LAGLITE_ENGINES=$work/engines XDG_CACHE_HOME=$work/cache
failed=0
: >"$output/summary.txt"

say() {
  # shellcheck disable=SC2059  # formats are given
  printf "$@" | tee -a "$output/summary.txt"
}

# step NAME SECONDS COMMAND...: runs it into NAME.log, at most so long, and no longer than is left.
step() {
  local name=$1 most=$2 begin=$SECONDS status
  shift 2
  [ $((limit - SECONDS)) -ge "$most" ] || most=$((limit - SECONDS))
  say '%-32s ' "$name"
  if [ "$most" -lt 10 ]; then
    failed=1
    say 'no time left\n'
    return
  fi
  # An interrupted pytest still lists what failed.
  timeout --signal=INT --kill-after=5 "$most" "$@" >"$output/$name.log" 2>&1 </dev/null
  status=$?
  [ $status -eq 0 ] || failed=1
  say 'exit %3d  %4d s\n' $status $((SECONDS - begin))
}

has() { "$python" -c "import importlib.util as u, sys; sys.exit(not u.find_spec('$1'))"; }

tests() {
  LAGLITE_GPU=$require step "$1" "$2" "$python" -m pytest -m gpu tests/runtime/test_gpu.py -k "$3" \
    -vv -rs --tb=short -p no:cacheprovider --color=no
}

if [ $# -gt 1 ]; then
  wheels=$(cd "$2" && pwd) || exit 1
  step environment 60 "$python" -m venv --system-site-packages "$work/venv"
  [ -x "$work/venv/bin/python" ] && python=$work/venv/bin/python
  for packages in 'numpy click rich' 'onnxruntime-gpu' 'pytest hypothesis pyarrow' 'onnx' 'torch' \
    'threadpoolctl' 'matplotlib' 'chronos-forecasting' 'tensorrt cuda-bindings'; do
    # shellcheck disable=SC2086  # several words
    step "install-${packages%% *}" 120 \
      "$python" -m pip install --no-index --find-links "$wheels" $packages
  done
fi
# onnxruntime looks for CUDA beside itself alone, not where PyTorch's packages have brought it.
libraries=$("$python" -c 'import glob, sys
print(*(f for path in sys.path for f in sorted(glob.glob(f"{path}/nvidia/*/lib"))), sep=":")')
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+${libraries:+:}$LD_LIBRARY_PATH}

cd "$checkout" || exit 1
step nvidia-smi 30 nvidia-smi
step packages 60 "$python" -m pip list
step info 60 "$python" -m laglite info

if [[ $parts == *" cuda "* ]]; then
  for precision in fp32 fp16; do
    step "verify-cuda-$precision" 90 \
      "$python" -m laglite verify base --backend cuda --precision $precision
  done
  tests tests-cuda 180 'not tensorrt'
fi

if [[ $parts == *" benchmark "* ]]; then
  # The release configuration is exported by PyTorch.
  { has torch && has onnx; } || MODEL=${MODEL:-base}
  # What is left, but for the last method's grace and the table.
  budget=${BUDGET:-$((limit - SECONDS - 45))}
  step benchmark $((budget + 45)) "$python" benchmarks/gpu.py --budget "$budget" \
    ${MODEL:+--model "$MODEL"} --folder "$work/models" --output "$output/gpu.json"
fi

if [[ $parts == *" tensorrt "* ]]; then
  for precision in fp32 fp16; do
    step "compile-$precision" 300 "$python" -m laglite compile base --precision $precision \
      --context 256 --horizon 64
    for backend in tensorrt onnxruntime-tensorrt; do
      step "verify-$backend-$precision" 120 \
        "$python" -m laglite verify base --backend $backend --precision $precision
    done
  done
  tests tests-tensorrt 400 tensorrt
fi
exit $failed
