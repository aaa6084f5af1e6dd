#!/usr/bin/env bash
# Installs what the VM rig needs and this machine lacks (Debian 12 or 13). Says what it does.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

missing=()

# want PACKAGE TOOL...: the package is missing if one of its tools is.
want() {
    local package=$1
    shift
    command -v "$@" >/dev/null || missing+=("$package")
}

want qemu-system-x86 qemu-system-x86_64
want cpio cpio
want kmod modprobe depmod
want xz-utils xz
want zstd zstd
# busybox is also the name of a dynamic build, which an initramfs cannot start.
[ -n "$(dpkg-query -W -f '${Version}' busybox-static 2>/dev/null)" ] || missing+=(busybox-static)
# To be taken into the guest.
want dash dash
want iproute2 ip
want ethtool ethtool
want iputils-ping ping
want socat socat

[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "vm: missing ${missing[*]}; run \`sudo apt-get install ${missing[*]}\`, or this as root" >&2
    exit 1
fi
echo "vm: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update -q && apt-get install -yq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "vm: apt-get could not install ${missing[*]}; the lines above are its last" >&2
    exit 1
fi
