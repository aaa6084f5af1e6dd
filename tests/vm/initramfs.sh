#!/usr/bin/env bash
# initramfs.sh KERNEL_DIR BIN_DIR OUT: packs busybox, a shell, network tools, qhaul, the guest's scripts and the kernel's modules.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"
kernel=$1 binaries=$2 out=$3
guest=$(cd "$(dirname "$0")/guest" && pwd)

tools=(ip ethtool ping socat)
# What is built into one kernel is a module of another, and some are gone in newer ones: the checks tell if one is missing.
modules=(virtio_pci virtio_net virtio_rng veth bridge 8021q pktgen
    ctr ghash_generic gcm hmac sha256_generic sha512_generic jitterentropy_rng drbg seqiv xfrm_user esp4 esp6)

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

# Copies a program to where the guest finds it, and the libraries that it names to where the loader looks.
take() {
    local to=$2 library
    cp -L "$1" "$root/$to/"
    ldd "$1" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -Lu "$library" "$root$library"
    done
}

# Numbers the modules, so that a dependency comes before what needs it.
take_modules() {
    local version module file name number=100
    version=$(ls "$kernel/lib/modules")
    for module in "${modules[@]}"; do
        { modprobe -d "$kernel" -S "$version" --show-depends "$module" 2>/dev/null || true; } |
            awk '$1 == "insmod" { print $2 }'
    done | awk '!seen[$0]++' | while read -r file; do
        name=$(basename "$file")
        number=$((number + 1))
        # Not every kernel unpacks modules itself.
        case $name in
            *.xz) xz -dc "$file" >"$root/modules/$number-${name%.xz}" ;;
            *.zst) zstd -qdc "$file" >"$root/modules/$number-${name%.zst}" ;;
            *) cp "$file" "$root/modules/$number-$name" ;;
        esac
    done
}

mkdir -p "$root"/{bin,dev,etc,modules,proc,qhaul,root,run,sys,tmp,tools,var,vm}
ln -s /run "$root/var/run"
cp "$(command -v busybox)" "$root/bin/busybox"
# Not busybox's shell, which prefers its own ip and ping to those of the path.
take "$(command -v dash)" bin
for tool in "${tools[@]}"; do
    take "$(command -v "$tool")" tools
done
for binary in qhaul qhaul-kme; do
    [ -x "$binaries/$binary" ] || { echo "vm: no $binaries/$binary; build it first" >&2; exit 1; }
    take "$binaries/$binary" qhaul
    strip --strip-debug "$root/qhaul/$binary"
done
cp "$guest"/*.sh "$root/vm/"
install -m 755 "$guest/init" "$root/init"
take_modules
(cd "$root" && find . -print0 | cpio --quiet --null -o -H newc) >"$out"
