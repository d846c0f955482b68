#!/bin/sh
# The CUDA backend's speed against the chip's limits and PyTorch: bench.sh (make gpu-bench). Needs what check.sh needs,
# and python3 with torch, transformers and peft. Writes bench.json to $OUT (or build/gpu/out); at most 8 minutes.
cd "$(dirname "$0")/../.." || exit 1
task=gpu-bench
. tests/gpu/settings.sh
if [ -n "${LUCID_CUDA:-}" ]; then
  echo "gpu-bench: LUCID_CUDA names a plug-in; what it does is measured, whatever it is"
elif find_gpu; then
  LUCID_CUDA=$gpu/made/liblucid_cuda.so # what is built says with it what device there is
  export LUCID_CUDA
  timeout 120 sh -c 'task=gpu-bench && . tests/gpu/settings.sh && find_gpu && build_plugin' >"$out/build.log" 2>&1 ||
    { tail -n 3 "$out/build.log" >&2; echo "gpu-bench: the plug-in was not built" >&2; exit 1; }
else
  echo "gpu-bench: there is no GPU; nothing is measured" >&2
  exit 1
fi
exec timeout -k 10 470 python3 tests/gpu/bench.py "$lucid" --out "$out/bench.json" --commit "$(cat "$gpu/commit")" "$@"
