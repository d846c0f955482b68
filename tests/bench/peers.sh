#!/bin/sh
# Lucid beside its peers on the same work: peers.sh (make bench-peers). All rows take hours on two cores, for the peers are
# slow; ROW=startup,regions runs some. ROUNDS (3), LAYERS (4), IMAGES (4) and PICTURES (108077, of the
# region file) make rows smaller. VENV names an environment
# that is there (peers/setup.sh says what is in it); else one is made in TMPDIR. Run it on an idle machine.
# Writes results/DATE-peers.json; status 1 when a row falls short of what is asked.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
venv=${VENV:-${TMPDIR:-/tmp}/lucid-peers}
[ -x "$venv/bin/python" ] || "$here/peers/setup.sh" "$venv"
export PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1
echo "$(date -u +%F), $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) threads," \
  "load $(cut -d' ' -f1 /proc/loadavg), commit $(git -C "$root" rev-parse --short HEAD)"
"$venv/bin/pip" list 2>/dev/null | grep -iE '^(torch|transformers|peft|trl|pillow|llama_cpp_python) ' | tr -s ' ' | paste -sd, -
cd "$root"
exec "$venv/bin/python" "$here/peers/run.py" "$root/bin/lucid" --rows "${ROW:-}" --rounds "${ROUNDS:-3}" \
  --layers "${LAYERS:-4}" --images "${IMAGES:-4}" --pictures "${PICTURES:-108077}" \
  --out "${OUT:-$here/results/$(date -u +%F)-peers.json}"
