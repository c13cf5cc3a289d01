#!/usr/bin/env bash
# laglite's CPU path on an emulated aarch64 processor, beside this machine's, as one command:
#
#   deploy/aarch64_emulated.sh FOLDER [REQUIREMENT ...]
#
# Unpacks Debian's arm64 Python into FOLDER, installs laglite's wheel there with the aarch64 wheels
# of the package index, runs `laglite info`, `laglite verify` and a forecast under qemu, and compares
# the sample paths with those of the same wheel on this machine. REQUIREMENTs, such as
# 'onnxruntime==1.23.2', go to pip on both sides. What FOLDER already holds is kept.
#
# Needs Debian packages qemu-user-static and mmdebstrap, and a Python with venv and pip; neither
# root's binfmt nor a chroot. CPU is qemu's name of the processor to emulate; SUITE is the Debian
# release. A minute and a half on a machine of two cores.
set -euo pipefail

if [ $# -lt 1 ]; then
  echo "usage: $0 FOLDER [REQUIREMENT ...]" >&2
  exit 2
fi
for tool in qemu-aarch64-static mmdebstrap python3; do
  command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 1; }
done
checkout=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
shift
suite=${SUITE:-bookworm}
root=$folder/$suite

if [ ! -d "$root" ]; then
  rm -rf "$root.part"
  mmdebstrap --quiet --arch=arm64 --variant=extract \
    --include=python3,python3-venv,python3-pip,libstdc++6,ca-certificates "$suite" "$root.part"
  mv "$root.part" "$root"
fi

# onnxruntime reads the processor from /proc, where this machine's own, seen through qemu,
# crashes it; what lies under qemu's root comes first. Features are those of a Cortex-A76, the
# nearest that qemu knows to a Jetson Orin's A78AE.
mkdir -p "$root/proc"
for ((core = 0; core < $(nproc); core++)); do
  printf '%s\t: %s\n' processor $core BogoMIPS 62.50 \
    Features 'fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp' \
    'CPU implementer' 0x41 'CPU architecture' 8 'CPU variant' 0x4 'CPU part' 0xd0b 'CPU revision' 1
  echo
done >"$root/proc/cpuinfo"

emulated() {
  qemu-aarch64-static -L "$root" -cpu "${CPU:-cortex-a76}" "$@"
}

[ -d "$folder/native" ] || python3 -m venv "$folder/native"
# qemu cannot start further programs without binfmt, so that pip is Debian's, not one of the venv.
[ -d "$folder/arm64" ] ||
  emulated "$root/usr/bin/python3" -m venv --without-pip --system-site-packages "$folder/arm64"
native=$folder/native/bin/python
arm64() { emulated "$folder/arm64/bin/python" "$@"; }

rm -rf "$folder/wheel"
"$native" -m pip wheel --quiet --no-deps --wheel-dir "$folder/wheel" "$checkout"
wheel=$(echo "$folder"/wheel/laglite-*.whl)
for python in "$native" arm64; do
  "$python" -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps "$wheel"
  "$python" -m pip install --quiet --disable-pip-version-check "${wheel}[cpu]" "$@"
done

arm64 -m laglite info
for model in base nano; do
  for precision in fp32 int8; do
    arm64 -m laglite verify $model --precision $precision | tail -n 1
  done
done
data=$checkout/examples/us_births_daily.csv
arm64 -m laglite forecast "$data" --horizon 7 --seed 1 --quantiles 0.1,0.5,0.9

samples='
import sys
import numpy as np
from laglite import Forecaster
births = np.loadtxt(sys.argv[1], delimiter=",", skiprows=1, usecols=1)
forecaster = Forecaster.load(sys.argv[2], precision=sys.argv[3])
forecast = forecaster.predict(births, horizon=28, start="1985-01-01", freq="D", seed=1)
np.savez(sys.argv[4], samples=forecast.samples, median=forecast.median)
'
compare='
import sys
import numpy as np
ours, theirs = np.load(sys.argv[1]), np.load(sys.argv[2])
paths = np.abs(ours["samples"] / theirs["samples"] - 1)
median = np.abs(ours["median"] / theirs["median"] - 1).max()
print(f"{sys.argv[3]}: relative difference of {paths.size:,} sampled values: largest "
      f"{paths.max():.1e}, half of them below {np.median(paths):.1e}; of the medians {median:.1e}")
'
for model in base nano; do
  for precision in fp32 int8; do
    "$native" -c "$samples" "$data" $model $precision "$folder/native.npz"
    arm64 -c "$samples" "$data" $model $precision "$folder/arm64.npz"
    "$native" -c "$compare" "$folder/arm64.npz" "$folder/native.npz" "$model $precision"
  done
done
