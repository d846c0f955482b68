#!/bin/bash
# The tiny model's training steps, lucid beside PyTorch, in one run: compare.sh [ROUNDS] [STEPS]
# Programs stay alive and take turns, so that whatever else the machine does hits all of them; the
# sleeping ones do nothing. The median of ROUNDS (9) medians of STEPS (8) is shown with the lowest and
# highest, and how many times faster lucid is. Writes results/DATE-steps.txt.
# PEERS names the folder of peers/setup.sh, which is made when absent.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
rounds=${1:-9} steps=${2:-8} threads=${THREADS:-2}
peers=${PEERS:-${TMPDIR:-/tmp}/lucid-peers}
[ -x "$peers/bin/python" ] || "$here/peers/setup.sh" "$peers"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT # the programs end by themselves, at the end of their input

"$root/bin/lucid" "$here/steps.lua" prepare "$work"
torch=("$peers/bin/python" "$here/peers/torch_tiny.py" "$work/model" "$work/features.safetensors"
  "$here/data/tiny_steps.json" --threads "$threads")

names=() ins=() outs=()
start() { # NAME COMMAND...
  local name=$1 in out
  shift
  mkfifo "$work/$name.in" "$work/$name.out"
  OMP_NUM_THREADS=$threads "$@" <"$work/$name.in" >"$work/$name.out" 2>"$work/$name.err" &
  exec {in}>"$work/$name.in" {out}<"$work/$name.out"
  names+=("$name") ins+=("$in") outs+=("$out")
  local line
  read -r line <&"$out" || { cat "$work/$name.err" >&2; exit 1; }
  echo "$name: $line"
}
ask() { # INDEX COMMAND... : the answer is in $line
  local i=$1
  shift
  echo "$*" >&"${ins[$i]}"
  read -r line <&"${outs[$i]}" || { cat "$work/${names[$i]}.err" >&2; exit 1; }
}

report() {
  echo "date: $(date -u +%F), cpu: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)," \
    "$threads threads, load $(cut -d' ' -f1 /proc/loadavg)"
  echo "commit: $(git -C "$root" rev-parse --short HEAD)"
  "$peers/bin/python" -c 'import torch, transformers, peft
print("torch", torch.__version__, "transformers", transformers.__version__, "peft", peft.__version__)'
  "$root/bin/lucid" --version | head -3
  start lucid "$root/bin/lucid" "$here/steps.lua" run "$work" "$threads"
  start eager "${torch[@]}"
  start causal "${torch[@]}" --causal-only
  start compiled "${torch[@]}" --compile --causal-only
  for kind in sft dpo; do
    for i in "${!names[@]}"; do
      ask "$i" "$kind 8"
      echo "warm-up $kind ${names[$i]}: $line"
    done
  done
  for round in $(seq "$rounds"); do
    for kind in sft dpo; do
      for k in "${!names[@]}"; do
        i=$(((k + round) % ${#names[@]})) # another order every round
        ask "$i" "$kind $steps"
        echo "$kind ${names[$i]} $line" >>"$work/times"
      done
    done
  done
  for kind in sft dpo; do
    for name in "${names[@]}"; do
      awk -v k="$kind" -v n="$name" '$1 == k && $2 == n { print $4 }' "$work/times" | sort -n |
        awk -v k="$kind" -v n="$name" '{ t[NR] = $1 }
          END { print k, n, (t[int((NR + 1) / 2)] + t[int(NR / 2) + 1]) / 2, t[1], t[NR] }'
    done
  done | awk '$2 == "lucid" { own = $3 }
    { printf "%s  %-9s median %8.2f ms  (%.2f to %.2f)  %.2f times lucid\n", $1, $2, $3, $4, $5, $3 / own }'
}

mkdir -p "$here/results"
report | tee "$here/results/$(date -u +%F)-steps.txt"
