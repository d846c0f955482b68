#!/bin/sh
# Lays what a bare machine with a GPU needs into a folder: bundle.sh BUILD FOLDER (make gpu-bundle).
# FOLDER/bin/lucid, FOLDER/lib with Lucid's libraries and all that ldd finds for them but libc's own, FOLDER/commit
# with the commit's id, and FOLDER/needs: what the machine has to have. RPATH is $ORIGIN/../lib (see the Makefile).
set -eu
from=$1 to=$2
most=50 # MiB

rm -rf "$to"
mkdir -p "$to/bin" "$to/lib"
cp "$from/bin/lucid" "$to/bin/"
cp "$from/lucid-decode" "$to/lib/"
for part in liblucid liblucid_text liblucid_net; do
  if [ -e "$from/$part.so" ]; then cp "$from/$part.so" "$to/lib/"; fi
done

ldd "$to"/bin/* "$to"/lib/* >"$to/ldd"
if grep 'not found' "$to/ldd" >&2; then exit 1; fi
sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' "$to/ldd" | sort -u | while read -r path; do
  case ${path##*/} in
    libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | librt.so.* | libresolv.so.* | ld-linux*) ;;
    liblucid*) ;;
    *) cp "$path" "$to/lib/" ;;
  esac
done
rm "$to/ldd"
strip --strip-debug "$to"/bin/* "$to"/lib/*

git describe --always --dirty --abbrev=40 --exclude='*' >"$to/commit"
glibc=$(objdump -T "$to"/bin/* "$to"/lib/* | sed -n 's/.*(\{0,1\}GLIBC_\([0-9.]*\).*/\1/p' | sort -V | tail -1)
echo "glibc $glibc or newer and a CPU of ${ARCH:-this kind}" >"$to/needs"

size=$(du -sk "$to" | cut -f1)
if [ "$size" -gt $((most * 1024)) ]; then
  echo "gpu-bundle: $to has $((size / 1024)) MiB; $most are allowed" >&2
  exit 1
fi
echo "gpu-bundle: $to, $((size / 1024)) MiB, commit $(cut -c1-12 "$to/commit"); it needs $(cat "$to/needs")"
