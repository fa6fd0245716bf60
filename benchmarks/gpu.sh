#!/usr/bin/env bash
# Everything that is to be measured on a machine with a GPU, in less than eight minutes.
#
# Needs PyTorch with CUDA, numpy, PyArrow, safetensors, pytest and hypothesis. Rows are written as
# they come, into OUT; what runs out of time loses the rows that it had not come to.
#
#   OUT=FOLDER  PYTHON=python3  RECMETA_SHARED_DATA=FOLDER (with ml-1m; else rows are synthetic)
set -uo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
OUT=${OUT:-benchmarks/speed/results/gpu}
mkdir -p "$OUT"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
export CUBLAS_WORKSPACE_CONFIG=:4096:8 # the tests ask for deterministic products
failed=()

part() { # NAME SECONDS COMMAND...
  local name=$1 seconds=$2
  shift 2
  printf '\n== %s, at most %s s, %s\n' "$name" "$seconds" "$(date -u +%H:%M:%S)"
  timeout --kill-after=5 "$seconds" "$@" 2>&1 | tee "$OUT/$name.log" || failed+=("$name")
}

speed() { # NAME SECONDS OPTIONS...
  local name=$1 seconds=$2
  shift 2
  rm -f "$OUT/$name.jsonl"
  part "$name" "$seconds" "$PYTHON" -m benchmarks.speed "$name" --device cuda \
    --lines "$OUT/$name.jsonl" --save "$OUT/$name.json" "$@"
}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee "$OUT/gpu.csv"
part tests 60 "$PYTHON" -m pytest -o addopts=-q -m gpu -rs tests/metalearn tests/serving
speed training 150 --epochs 4
speed adapt-score 60 --seconds 2
speed meta-train 200 --seconds 1

if ((${#failed[@]})); then
  printf '\nfailed or out of time: %s\n' "${failed[*]}"
  exit 1
fi
