#!/usr/bin/env bash
# kernel.sh SUITE CACHE: downloads the newest stock kernel of a Debian suite, unpacks it, and prints its directory.
#
# apt is given a configuration, lists and archives of its own under CACHE, so that the machine's apt is left as it is;
# mirror, proxy and keyring are the machine's. What was unpacked once is used again without asking the mirror.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"
suite=$1
cache=$(mkdir -p "$2" && cd "$2" && pwd)
unpacked=$cache/kernels/$suite

fail() {
    echo "vm: $1" >&2
    exit 1
}

# Prints the machine's first Debian mirror, else Debian's own.
mirror() {
    local uri
    # shellcheck disable=SC2016 # apt's own variable
    uri=$(apt-get indextargets --no-release-info 'Created-By: Packages' --format '$(REPO_URI)' | grep -E '/debian/?$' | head -n 1)
    echo "${uri:-http://deb.debian.org/debian}"
}

configure() {
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -r "$keyring" ] || fail "no $keyring; install debian-archive-keyring"
    rm -rf "$apt"
    mkdir -p "$apt"/{parts,lists/partial,archives/partial}
    : >"$apt/status"
    echo "deb [arch=amd64 signed-by=$keyring] $(mirror) $suite main" >"$apt/sources.list"
    # The machine's ways to fetch; not its hooks, nor the indices that other programs want.
    apt-config dump | grep '^Acquire::' | grep -v '^Acquire::IndexTargets' >"$apt/apt.conf"
    cat >>"$apt/apt.conf" <<END
Acquire::Languages "none";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
Dir::Etc::main "/dev/null";
Dir::Etc::parts "$apt/parts";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "$apt/parts";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "$apt/parts";
Dir::State "$apt";
Dir::State::status "$apt/status";
Dir::Cache "$apt";
Dir::Log "$apt";
END
}

# Unpacks packages into one tree with `vmlinuz` and `lib/modules`; where packages have these differs from release to release.
unpack() {
    local tree=$unpacked.new deb
    rm -rf "$tree"
    mkdir -p "$tree"
    for deb in "$@"; do
        dpkg-deb -x "$deb" "$tree"
    done
    [ -d "$tree/lib/modules" ] || mv "$tree/usr/lib" "$tree/lib"
    mv "$(find "$tree" -type f -name 'vmlinuz*' | head -n 1)" "$tree/vmlinuz"
    depmod -b "$tree" "$(ls "$tree/lib/modules")" 2>/dev/null
    rm -rf "$unpacked"
    mv "$tree" "$unpacked"
}

# Prints what a package depends on of the same kernel: since 7.x, image and modules are packages of their own.
parts() {
    apt-cache depends "$1" | awk '$1 == "Depends:" && $2 ~ /^linux-(image|binary|modules)-[0-9]/ { print $2 }'
}

if [ ! -d "$unpacked" ]; then
    apt=$cache/apt/$suite
    configure
    export APT_CONFIG=$apt/apt.conf
    apt-get update -qq >"$apt/update.log" 2>&1 || fail "cannot read $suite from the mirror: $(tail -n 1 "$apt/update.log")"
    # The metapackage names the kernel of the day.
    image=$(parts linux-image-amd64 | head -n 1)
    [ -n "$image" ] || fail "$suite has no linux-image-amd64"
    echo "vm: downloading $image of $suite" >&2
    # shellcheck disable=SC2046 # one word for each package
    (cd "$apt/archives" && apt-get download -qq "$image" $(parts "$image") >"$apt/download.log" 2>&1) ||
        fail "cannot download $image: $(tail -n 1 "$apt/download.log")"
    unpack "$apt"/archives/*.deb
    rm -rf "$apt"
fi
echo "$unpacked"
