# What check.sh and bench.sh share, read by them from the repository's root: how the bundle's program is run, and where
# results go. LUCID_CUDA may name a plug-in: that one is taken, and nothing is built (so the emulated device is tested).
gpu=$PWD/build/gpu
out=${OUT:-$gpu/out}
lucid=$gpu/bin/lucid
if [ ! -x "$lucid" ]; then
  echo "$task: $gpu/bin/lucid is not there; run make gpu-bundle where Lucid's libraries are and bring build/gpu here" >&2
  exit 1
fi
mkdir -p "$out"
# The program finds its Lua files in the repository and not two folders above itself.
LUA_PATH="$PWD/lua/?.lua;$PWD/lua/?/init.lua;$PWD/?.lua"
LUCID_LIB=$gpu/lib/liblucid.so LUCID_CACHE=none
export LUA_PATH LUCID_LIB LUCID_CACHE
unset MAKEFLAGS MAKELEVEL MFLAGS

# Sets arch to the GPU's compute capabilities, as CUDA_ARCH has them; empty: nvidia-smi is missing. 1: there is no GPU.
find_gpu() {
  arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d . | sort -u | tr '\n' ' ')
  arch=${arch% }
  [ -n "$arch" ] || [ -e /dev/nvidiactl ]
}

# Builds the plug-in, for this GPU alone where it is known; its path goes to LUCID_CUDA.
build_plugin() {
  command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ] || { echo "there is no nvcc"; return 1; }
  make -j"$(nproc)" BUILD=build/gpu/made ${arch:+"CUDA_ARCH=$arch"} build/gpu/made/liblucid_cuda.so &&
    "$lucid" tests/gpu/device.lua
}
