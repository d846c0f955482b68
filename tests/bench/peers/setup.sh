#!/bin/sh
# Makes the throw-away environment that the peers run in: setup.sh [FOLDER]
# TORCH=... pins another torch ("torch==2.15.0"); the CPU is all that is used. llama.cpp is compiled from the source in
# llama-cpp-python's package, which takes a quarter of an hour on two cores; where that fails its rows are not measured.
set -eu
folder=${1:-${TMPDIR:-/tmp}/lucid-peers}
python=${PYTHON:-python3}
[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
"$folder/bin/pip" install --quiet "${TORCH:-torch}" transformers peft trl datasets safetensors numpy pillow gguf
"$folder/bin/python" -c 'import llama_cpp' 2>/dev/null ||
  "$folder/bin/pip" install --quiet --no-binary llama-cpp-python llama-cpp-python ||
  echo "setup: llama-cpp-python was not built; the rows of llama.cpp will not be measured" >&2
echo "$folder/bin/python"
