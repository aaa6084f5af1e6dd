#!/usr/bin/env bash
# run.sh [--bin DIR] [--cache DIR] [6.1|6.12|newest]...: boots qhaul on Debian's stock kernels under qemu, one after the other, and
# counts the checks that the guests report. Fails if one fails, or is missing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
binaries=$here/../../target/release cache=$here/../../target/vm
# A guest that hangs is given up; an idle machine needs a quarter of this.
seconds=${VM_SECONDS:-400}

declare -A suites=([6.1]=bookworm [6.12]=bookworm-backports [newest]=trixie-backports)
kernels=()
while [ $# -gt 0 ]; do
    case $1 in
        --bin) binaries=$2 && shift 2 ;;
        --cache) cache=$2 && shift 2 ;;
        *)
            [ -n "${suites[$1]:-}" ] || { echo "vm: no kernel '$1'; there are 6.1, 6.12 and newest" >&2; exit 2; }
            kernels+=("$1") && shift
            ;;
    esac
done
[ ${#kernels[@]} -gt 0 ] || kernels=(6.1 6.12 newest)

"$here/deps.sh"
mkdir -p "$cache"
work=$(mktemp -d -p "$cache" run.XXXXXX)
trap 'rm -rf "$work"' EXIT

passed=0 failed=0

# Counts one guest's checks against those that `checks` names for it: each must have said ok once, and none FAIL.
count() {
    local label=$1 log=$2 name on good bad
    while read -r name on _; do
        case $name in '' | '#'*) continue ;; esac
        case ",$on," in *",all,"* | *",$label,"*) ;; *) continue ;; esac
        good=$(grep -c "^vm: ok $name:" "$log" || true)
        bad=$(grep -c "^vm: FAIL $name:" "$log" || true)
        if [ "$good" -eq 1 ] && [ "$bad" -eq 0 ]; then
            passed=$((passed + 1))
            continue
        fi
        failed=$((failed + 1))
        [ "$bad" -gt 0 ] || echo "FAIL $label $name: not heard of"
    done <"$here/checks"
    # What nobody asked for is a mistake in `checks`, unless it says why it fails.
    while read -r name; do
        grep -q "^${name}[[:space:]]" "$here/checks" && continue
        failed=$((failed + 1))
        echo "FAIL $label $name: reported, but not in $here/checks"
    done < <(sed -n 's/^vm: \(ok\|FAIL\) \([^:]*\):.*/\2/p' "$log")
}

for label in "${kernels[@]}"; do
    began=$SECONDS
    kernel=$("$here/kernel.sh" "${suites[$label]}" "$cache")
    "$here/initramfs.sh" "$kernel" "$binaries" "$work/initramfs"
    echo "vm: $label: booting Linux $(ls "$kernel/lib/modules")"
    "$here/boot.sh" "$kernel" "$work/initramfs" "$label" "$seconds" 2>"$work/qemu" | tr -d '\r' >"$work/console" ||
        echo "vm: $label: the guest did not end within $seconds s, or qemu failed: $(tail -n 1 "$work/qemu")"
    # Whatever the console puts in front of the first line of ours.
    sed -i 's/^.*\(vm: [a-zA-Z|]\)/\1/' "$work/console"
    sed -n "s/^vm: \(ok\|FAIL\) /\1 $label /p; s/^vm: |/    |/p" "$work/console"
    before=$failed
    count "$label" "$work/console"
    if [ "$failed" -gt "$before" ]; then
        cp "$work/console" "$cache/console-$label.log"
        echo "vm: $label: the whole console is in $cache/console-$label.log"
    fi
    echo "vm: $label: $((SECONDS - began)) s"
done
echo "vm: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
