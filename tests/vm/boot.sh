#!/usr/bin/env bash
# boot.sh KERNEL_DIR INITRAMFS LABEL SECONDS: runs a guest to its end; its console is our output. Fails if time runs out.
#
# Six cards on three hubs, each a cable between two; zero-copy needs cards that use the platform's DMA (iommu_platform).
set -euo pipefail
kernel=$1 initramfs=$2 label=$3 seconds=$4

# No offloads: native XDP asks for that, and far ends would leave checksums out.
features=disable-legacy=on,iommu_platform=on,mrg_rxbuf=on,romfile=
for offload in csum gso guest_csum guest_tso4 guest_tso6 guest_ecn guest_ufo host_tso4 host_tso6 host_ecn host_ufo; do
    features+=,$offload=off
done
cards=()
# card CABLE MAC
card() {
    local id=card${#cards[@]}
    cards+=(-netdev "hubport,id=$id,hubid=$1" -device "virtio-net-pci,netdev=$id,mac=$2,$features")
}
card 1 02:00:5e:77:00:01 # host a
card 1 02:00:5e:aa:00:01 # plain a
card 2 02:00:5e:99:00:01 # cipher a
card 2 02:00:5e:99:00:02 # cipher b
card 3 02:00:5e:aa:00:02 # plain b
card 3 02:00:5e:77:00:02 # host b

# Accelerated guests need hardware that a CI machine often lacks; emulation is the same everywhere.
exec timeout --kill-after=5 "$seconds" qemu-system-x86_64 -accel tcg -cpu max -smp 2 -m 1536 \
    -nodefaults -no-user-config -nographic -serial stdio -no-reboot -rtc base=utc -device virtio-rng-pci "${cards[@]}" \
    -kernel "$kernel/vmlinuz" -initrd "$initramfs" \
    -append "console=ttyS0 panic=-1 quiet mitigations=off qhaul.kernel=$label" </dev/null
