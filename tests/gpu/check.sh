#!/bin/sh
# Whether the CUDA backend is right on this machine: check.sh (make gpu-check). Needs build/gpu (make gpu-bundle), make,
# a C compiler and nvcc; no network, no git, no busted. At most 8 minutes: every stage has a limit of its own.
# Each stage leaves NAME.log and NAME.json in $OUT (or build/gpu/out); the table comes last. Without a GPU the stages
# that need one are skipped. The status is 1 when a stage failed; a failure stops no other stage.
# SEED= chooses the random inputs, else the clock does. With LUCID_CUDA the stages are small: the device is emulated.
cd "$(dirname "$0")/../.." || exit 1
task=gpu-check
. tests/gpu/settings.sh
seed=${SEED:-$(date +%s)}
table= failed=0 without=
small=0 few= size=

quoted() { printf '%s' "$1" | tr -d '\000-\037' | sed 's/\\/\\\\/g; s/"/\\"/g'; }

# record NAME STATUS SECONDS LIMIT WORDS: one line of the table, and one file
record() {
  printf '{"stage": "%s", "status": "%s", "seconds": %d, "limit": %d, "seed": %d, "detail": "%s"}\n' "$1" "$2" "$3" \
    "$4" "$seed" "$(quoted "$5")" >"$out/$1.json"
  table="$table$(printf '%-10s %-8s %4d s  %.160s' "$1" "$2" "$3" "$5")
"
  [ "$2" != failed ] || failed=$((failed + 1))
  echo "$1: $2"
}

# stage NAME LIMIT COMMAND...: status 0 is passed, 77 skipped, anything else failed; its last line says more
stage() {
  name=$1 limit=$(($2 * (small ? 5 : 1))) # an emulated device is slow
  shift 2
  before=$(date +%s)
  timeout -k 5 "$limit" "$@" >"$out/$name.log" 2>&1 </dev/null
  status=$?
  took=$(($(date +%s) - before))
  case $status in
    0) result=passed ;;
    77) result=skipped ;;
    *) result=failed ;;
  esac
  words=$(grep -v '^ *$' "$out/$name.log" | tail -n 1)
  case $status in 124 | 137) words="it took more than its $limit s; $words" ;; esac
  record "$name" "$result" "$took" "$limit" "$words"
  return $status
}

# The same for what needs the device.
device_stage() {
  if [ -n "$without" ]; then record "$1" skipped 0 "$2" "$without"; else stage "$@"; fi
}

# run NAME LIMIT WORDS...: what the program makes of the words, on the device
run() {
  name=$1 limit=$2
  shift 2
  device_stage "$name" "$limit" "$lucid" "$@"
}

stage bundle 20 "$lucid" tests/gpu/bundle.lua "$gpu"

if [ -n "${LUCID_CUDA:-}" ]; then
  small=1 few='8 12' size=small
  record build skipped 0 120 "LUCID_CUDA names a plug-in"
elif ! find_gpu; then
  without='there is no GPU'
  record build skipped 0 120 "$without"
else
  LUCID_CUDA=$gpu/made/liblucid_cuda.so
  export LUCID_CUDA
  facts=name,driver_version,clocks.sm,clocks.mem,clocks_throttle_reasons.active,power.draw
  nvidia-smi --query-gpu=$facts --format=csv >"$out/facts.txt" 2>&1
  stage build 120 sh -c 'cd "$0" && task=gpu-check && . tests/gpu/settings.sh && find_gpu && build_plugin' "$PWD" ||
    without='the plug-in was not built'
fi

LUCID_POISON=1 # memory of the device starts as NaN
export LUCID_POISON
run ops 75 tests/gpu/ops.lua "$seed"
run attention 60 tests/gpu/attention.lua "$seed" $few
run step0 20 tests/gpu/step0.lua "$seed" $size
specs='golden_llava golden_steps golden_dpo golden_bridges golden_era llava_original'
[ $small = 1 ] || specs="$specs golden_beams"
run golden 60 tests/gpu/specs.lua $(printf 'tests/spec/%s_spec.lua ' $specs)
run decode 30 tests/gpu/decode.lua "$seed" $size
unset LUCID_POISON
if [ $small = 1 ]; then
  record demo skipped 0 60 "it takes minutes on an emulated device"
  record sanitizer skipped 0 60 "the device is emulated"
else
  rm -rf "$out/demo"
  run demo 60 demo --fast --device cuda --seed "$((seed % 1000))" --quiet --out "$out/demo"
  device_stage sanitizer 60 tests/gpu/sanitizer.sh "$lucid" "$seed"
fi

printf '\nseed %s, commit %s%s\n%s' "$seed" "$(cut -c1-12 "$gpu/commit")" \
  "$([ -s "$out/facts.txt" ] && tail -n 1 "$out/facts.txt" | sed 's/^/, /')" "$table" | tee "$out/table.txt"
[ "$failed" = 0 ]
