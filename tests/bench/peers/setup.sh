#!/bin/sh
# Makes the throw-away environment that the peers run in: setup.sh [FOLDER]
# TORCH=... pins another torch ("torch==2.15.0"); the CPU is all that is used.
set -eu
folder=${1:-${TMPDIR:-/tmp}/lucid-peers}
python=${PYTHON:-python3}
[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
"$folder/bin/pip" install --quiet "${TORCH:-torch}" transformers peft safetensors numpy
"$folder/bin/python" - <<'END'
import torch, transformers, peft
print("torch", torch.__version__, "transformers", transformers.__version__, "peft", peft.__version__)
END
echo "$folder/bin/python"
