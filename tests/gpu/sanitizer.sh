#!/bin/sh
# A few ops under compute-sanitizer, which does not run on every machine (status 77): sanitizer.sh LUCID SEED
lucid=$1 seed=$2
PATH=$PATH:/usr/local/cuda/bin
command -v compute-sanitizer >/dev/null || { echo "there is no compute-sanitizer"; exit 77; }
compute-sanitizer --error-exitcode 9 "$lucid" tests/gpu/device.lua >/dev/null 2>&1 ||
  { echo "compute-sanitizer does not run here"; exit 77; }
for tool in memcheck racecheck; do
  compute-sanitizer --tool "$tool" --error-exitcode 9 "$lucid" tests/gpu/ops.lua "$seed" softmax rms_norm token_logps ||
    { echo "$tool found errors"; exit 1; }
  compute-sanitizer --tool "$tool" --error-exitcode 9 "$lucid" tests/gpu/attention.lua "$seed" 4 12 ||
    { echo "$tool found errors in attention"; exit 1; }
done
echo "memcheck and racecheck found nothing"
