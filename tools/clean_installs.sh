#!/usr/bin/env bash
# Install a wheel with its cpu extra into a fresh environment of each Python that is found, and use
# it there: version, test vectors, a forecast. Usage: tools/clean_installs.sh WHEEL PYTHON...
set -euo pipefail
wheel=$(realpath "$1")
shift
input=$(realpath "$(dirname "$0")/../examples/us_births_daily.csv")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
used=0
for python in "$@"; do
  if ! "$python" -c 'import venv' 2>/dev/null; then
    echo "$python: not found"
    continue
  fi
  venv=env$used
  "$python" -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "$wheel[cpu]"
  "$venv/bin/laglite" --version
  "$venv/bin/laglite" verify nano >/dev/null
  "$venv/bin/laglite" forecast "$input" --horizon 3 --seed 1 --output forecast.csv 2>/dev/null
  "$venv/bin/python" - forecast.csv <<'CHECK'
import csv, platform, sys
from importlib.metadata import version

rows = list(csv.DictReader(open(sys.argv[1])))
assert [row["ds"] for row in rows] == ["1989-01-01", "1989-01-02", "1989-01-03"], rows
installed = ", ".join(f"{name} {version(name)}" for name in ("numpy", "onnxruntime"))
print(f"Python {platform.python_version()}: a forecast with {installed}; medians", [row["0.5"] for row in rows])
CHECK
  used=$((used + 1))
done
test "$used" -gt 0
