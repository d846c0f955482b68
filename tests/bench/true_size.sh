#!/bin/bash
# The models at their true size: true_size.sh [TOKENIZER] [PICTURE]
# Writes LLaVA-1.5-7B of random numbers below FOLDER (default: a new folder in TMPDIR; 14 GB of disk at a
# time), in bf16 and in f16, answers one picture with each (true_size.lua), and removes it; then InstructBLIP-13B
# in both of its layouts as sparse files, whose names and shapes are checked. Memory is VmHWM, with mapped
# pages. ROUNDS of whole runs (3) are made: others' load only ever slows one, so the best of them is the
# machine's. Writes results/DATE-true-size.txt.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
tokenizer=${1:-$root/../shared/data/tokenizer/llama/tokenizer.model}
picture=${2:-$root/tests/golden/llava_tiny/picture.png}
threads=${THREADS:-2} rounds=${ROUNDS:-3}
work=$(mktemp -d "${FOLDER:-${TMPDIR:-/tmp}}/true-size.XXXXXX")
trap 'rm -rf "$work"' EXIT
lucid=$root/bin/lucid
cd "$root"

answer() { # DTYPE of the file
  echo
  echo "## LLaVA-1.5-7B, $1 in the file, bf16 in use"
  "$lucid" "$here/true_size.lua" make llava-hf "$work/llava" "$1"
  cp "$tokenizer" "$work/llava/tokenizer.model"
  for _ in $(seq "$rounds"); do
    echo "load $(cut -d' ' -f1-3 /proc/loadavg)"
    "$lucid" "$here/true_size.lua" measure "$work/llava" bf16 "$picture" "$threads"
  done
  rm -r "$work/llava"
}

report() {
  echo "date: $(date -u +%F), cpu: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)," \
    "$threads threads, $(awk '/^MemTotal/ { printf "%.1f GB", $2 / 1e6 }' /proc/meminfo) of memory"
  echo "commit: $(git rev-parse --short HEAD)"
  answer bf16
  answer f16
  echo
  echo "## InstructBLIP-13B, f16, sparse files"
  for layout in instructblip-hf instructblip; do
    "$lucid" "$here/true_size.lua" make "$layout" "$work/$layout" f16 sparse
  done
  cd "$work"
  "$lucid" inspect instructblip-hf --fit
  "$lucid" inspect instructblip/vicuna --fit --vision instructblip/eva_vit_g.pth \
    --bridge instructblip/instruct_blip_vicuna13b_trimmed.pth
}

mkdir -p "$here/results"
report 2>&1 | tee "$here/results/$(date -u +%F)-true-size.txt"
