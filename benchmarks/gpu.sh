#!/usr/bin/env bash
# Everything that is to be measured on a machine with a GPU, in less than eight minutes.
#
# Needs PyTorch, numpy, PyArrow, safetensors and pytest, and recmeta's sources, not installed. Rows
# are written as they come, into OUT; what runs out of time loses the rows that it had not come to.
# In the end OUT/gpu.json has them all, and one table is printed.
#
#   OUT=FOLDER  PYTHON=python3  RECMETA_SHARED_DATA=FOLDER (with ml-1m; else rows are synthetic)
#   DEVICE=cpu  SIZE=tiny       the same parts on a CPU, in seconds: whether the script is whole
#   PARTS="tests many-users"    these alone (default: all)
set -uo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
OUT=${OUT:-benchmarks/speed/results/gpu}
DEVICE=${DEVICE:-cuda}
SIZE=${SIZE:-full}
PARTS=${PARTS:-tests training many-users adapt-score meta-train}
mkdir -p "$OUT"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 # of what else is installed
export CUBLAS_WORKSPACE_CONFIG=:4096:8 # the tests ask for deterministic products
failed=()

part() { # NAME SECONDS COMMAND...
  local name=$1 seconds=$2
  shift 2
  [[ " $PARTS " == *" $name "* ]] || return 0
  printf '\n== %s, at most %s s, %s\n' "$name" "$seconds" "$(date -u +%H:%M:%S)"
  timeout --kill-after=5 "$seconds" "$@" 2>&1 | tee "$OUT/$name.log" || failed+=("$name")
}

speed() { # NAME SECONDS OPTIONS...
  local name=$1 seconds=$2
  shift 2
  [[ " $PARTS " == *" $name "* ]] || return 0
  rm -f "$OUT/$name.jsonl"
  part "$name" "$seconds" "$PYTHON" -m benchmarks.speed "$name" --device "$DEVICE" \
    --lines "$OUT/$name.jsonl" --save "$OUT/$name.json" "$@"
}

if command -v nvidia-smi > /dev/null; then
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee "$OUT/gpu.csv"
fi

# Files that have such tests, and no others: these would be imported, and need more.
mapfile -t gpu_tests < <(grep -rlE --include='test_*.py' 'pytest\.mark\.gpu' tests)
# The configuration has a limit of time for each test, which pytest alone does not know.
# Seconds of each part: 455 together.
part tests 60 "$PYTHON" -m pytest -p no:cacheprovider -o addopts=-q -m gpu -rs \
  -W ignore::pytest.PytestConfigWarning \
  --junitxml "$OUT/tests.xml" "${gpu_tests[@]}"
if [[ $SIZE == tiny ]]; then
  speed training 300 --epochs 1 --users 60 --threads 1 --learner maml
  speed many-users 300 --users 300 --items 60 --batch-size 64
  speed adapt-score 300 --seconds 0 --threads 1 --quick
  speed meta-train 300 --seconds 0 --threads 1 --quick
else
  speed training 110 --epochs 3
  speed many-users 110
  speed adapt-score 45 --seconds 2
  speed meta-train 130 --seconds 1
fi
printf '\n'
"$PYTHON" -m benchmarks.speed.gathered "$OUT" || failed+=(table)

if ((${#failed[@]})); then
  printf '\nfailed or out of time: %s\n' "${failed[*]}"
  exit 1
fi
