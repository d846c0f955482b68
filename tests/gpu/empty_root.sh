#!/bin/sh
# Runs a command where there is nothing but libc, gcc, make, a shell with its few tools, the repository's files and the
# bundle, and no network: empty_root.sh COMMAND. Status 77: this machine permits no namespaces.
# What is run in it cannot use anything else: it is not there.
set -eu
cd "$(dirname "$0")/../.."
unshare -rmn true 2>/dev/null || { echo "unshare is not permitted here"; exit 77; }
[ "${1:-}" = inside ] || exec unshare -rmn "$0" inside "$@"
shift

root=$PWD/build-gpu/root # seen in here alone
mkdir -p "$root"
mount -t tmpfs none "$root"
mkdir -p "$root/tmp" "$root/dev" "$root/proc" "$root/lucid"
for link in bin sbin lib lib64; do # as this system has them
  if [ -L "/$link" ]; then
    mkdir -p "$root/usr/$link"
    ln -s "usr/$link" "$root/$link"
  fi
done
mount --rbind /proc "$root/proc"
for device in null urandom; do : >"$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"; done

# A file and, where it is a program, the libraries that it loads, at their own places.
bring() {
  for path in "$@"; do
    mkdir -p "$root${path%/*}"
    [ -e "$root$path" ] || cp "$path" "$root$path"
  done
}
bring_program() {
  for name in "$@"; do
    path=$(command -v "$name")
    bring "$path"
    bring $(ldd "$path" 2>/dev/null | grep -o '/[^ ]*')
  done
}
bring_program sh bash make gcc as ld timeout date mkdir rm cat cut tr sed grep tail tee nproc uname sha256sum cp mv \
  touch ls dirname sort env mktemp head
# gcc's own parts, and libc's headers and startup files
gcc_folder=$(dirname "$(gcc -print-libgcc-file-name)")
mkdir -p "$root$gcc_folder" "$root/usr/include"
mount --bind "$gcc_folder" "$root$gcc_folder"
mount --bind /usr/include "$root/usr/include"
bring $(ldd "$(gcc -print-prog-name=cc1)" | grep -o '/[^ ]*')
for part in crt1.o crti.o crtn.o Scrt1.o libc.so libc.so.6 libc_nonshared.a libm.so libm.so.6 libmvec.so.1 \
  libgcc_s.so.1; do
  path=$(gcc -print-file-name=$part)
  case $path in /*) bring "$path" ;; esac
done
bring $(ldd build/gpu/bin/lucid build/gpu/lib/* | grep -o '/[^ ]*lib\(c\|m\|dl\|pthread\|rt\|resolv\)\.so[^ ]*' |
  sort -u)

git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$root/lucid"
mkdir -p "$root/lucid/build"
cp -r build/gpu "$root/lucid/build/"
rm -rf "$root/lucid/build/gpu/out" "$root/lucid/build/gpu/made"
exec env -i PATH=/usr/bin:/bin HOME=/tmp "$(command -v chroot)" "$root" /bin/sh -c 'cd /lucid && exec "$@"' sh "$@"
