#!/usr/bin/env bash
# Runs the fuzzers of BUILD one after another: "short" for a fixed number of inputs each, which depend on a seed
# alone, or for so many seconds, which goes on where the last run ended. A finding is left in BUILD/fuzz/found
# and ends the run with status 1; "BUILD/fuzz/NAME FILE" shows it again.
set -uo pipefail
build=$1 how=$2
slow=" client config data sentencepiece server settings text "   # a few thousand inputs a second
declare -A golden=([picture]=tests/golden/image/files [torchfile]=tests/golden/torchfile)   # seeds that are there anyway
mkdir -p "$build/fuzz/found"
export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
status=0
for name in $FUZZERS; do
  seeds=()
  for folder in "tests/fuzz/corpus/$name" ${golden[$name]-}; do [ -d "$folder" ] && seeds+=("$folder"); done
  options=(-timeout=120 -rss_limit_mb=2048 -malloc_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$build/fuzz/found/$name-")
  [ -f "tests/fuzz/${name}_fuzz.lua" ] && options+=(-detect_leaks=0)   # what waits for the collector is none; the end is looked at
  learnt=$build/fuzz/corpus/$name
  if [ "$how" = short ]; then
    runs=20000
    [[ $slow == *" $name "* ]] && runs=2000
    learnt=$build/fuzz/short/$name options+=(-runs=$runs -seed=1)
    rm -rf "$learnt"
  else
    options+=(-max_total_time="$how")
  fi
  mkdir -p "$learnt"
  log=$build/fuzz/$name.log
  if "$build/fuzz/$name" "${options[@]}" "$learnt" "${seeds[@]}" >"$log" 2>&1; then
    awk -v name="$name" '/ cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") coverage = $(i + 1) }
      /number_of_executed_units/ { runs = $2 }
      END { printf "%-14s %9d inputs, %5d edges\n", name, runs, coverage }' "$log"
  else
    echo "$name: a finding; see $log" >&2
    tail -n 30 "$log" >&2
    status=1
  fi
done
exit $status
