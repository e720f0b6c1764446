# Makes a matrix guest's file systems from its release's shared tree. Runs as `sh -e build.sh SETTINGS` in a private mount
# namespace, so nothing stays mounted whatever ends it. The settings are shell variables (disk.rs); what it makes lies in $WORK:
#   root.img [boot.img] [esp.img]   file systems
#   gap.img                         boot code and what follows it before the first partition (BIOS)
# The guest's files are in $WORK/files and $WORK/esp.
. "$1"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin
tree=$WORK/tree mnt=$WORK/mnt
mkdir -p "$tree" "$mnt" "$WORK/upper" "$WORK/overlay"

# --- the tree -------------------------------------------------------------------------------------------------------------
mount -t overlay overlay -o "lowerdir=$TREE,upperdir=$WORK/upper,workdir=$WORK/overlay" "$tree"
mount -t proc proc "$tree/proc"
mount -t tmpfs tmpfs "$tree/tmp"
printf '#!/bin/sh\nexit 101\n' > "$tree/usr/sbin/policy-rc.d"
chmod 755 "$tree/usr/sbin/policy-rc.d"
if [ -n "$PACKAGES" ]; then
    # Everything was downloaded with the tree. No initramfs and no boot entry yet.
    INITRD=No chroot "$tree" apt-get -q install -y --no-install-recommends --no-download \
        -o Dpkg::Options::=--force-unsafe-io $PACKAGES
fi
rm "$tree/usr/sbin/policy-rc.d"
cp -a "$WORK/files/." "$tree/"
case $NETWORK in
    Networkd|Netplan) chroot "$tree" systemctl -q enable systemd-networkd.service ;;
esac

# --- its initramfs ----------------------------------------------------------------------------------------------------------
initrd=/boot/initrd.img-$KERNEL
if [ "$GENERATOR" = Dracut ]; then
    # Host-only by its own configuration, on the old machine: /proc/modules lists what that has loaded (dracut-install takes
    # no other modules), and there is no /sys that would show this host's devices. Everything else of /proc is real.
    mkdir "$tree/run/proc"
    mount --move "$tree/proc" "$tree/run/proc"
    mount -t tmpfs tmpfs "$tree/proc"
    for entry in "$tree"/run/proc/[a-z]*; do ln -s "/run/proc/${entry##*/}" "$tree/proc/"; done
    rm -f "$tree/proc/modules"
    for module in $DRIVERS $FS $STACK_MODULES; do echo "$module 16384 1 - Live 0x0000000000000000"; done > "$tree/proc/modules"
    chroot "$tree" dracut -q --force --hostonly --no-hostonly-cmdline --no-hostonly-default-device --kver "$KERNEL" \
        --add "$DRACUT_MODULES" --filesystems "$FS" --add-drivers "$DRIVERS $FS $STACK_MODULES" \
        --omit-drivers "virtio virtio_blk virtio_scsi virtio_pci virtio_net virtio_ring virtio_pci_modern_dev virtio_pci_legacy_dev" \
        --compress "gzip -n -4" "$initrd"
    umount "$tree/proc"
    mount --move "$tree/run/proc" "$tree/proc"
    rmdir "$tree/run/proc"
else
    chroot "$tree" update-initramfs -c -k "$KERNEL"
fi
if chroot "$tree" "$LSINITRD" "$initrd" | grep -q '/virtio_\(blk\|scsi\|pci\)\.ko'; then
    echo "the initramfs has virtio" >&2
    exit 1
fi

if [ -n "$CRYPT_SOURCE" ]; then
    # The hook of initramfs-tools puts UUIDs into the initramfs, whatever crypttab says, where it can see the device.
    sed -i "s|UUID=[^ ]*|$CRYPT_SOURCE|" "$tree/etc/crypttab"
fi

# --- its boot loader's files ------------------------------------------------------------------------------------------------
case $LOADER in
GrubCfg|Bls)
    modules=/usr/lib/grub
    mkimage="chroot $tree grub-mkimage"
    if [ "$LOADER" = Bls ]; then
        modules=/var/cache/newer-grub/usr/lib/grub
        mkimage="chroot $tree /var/cache/newer-grub/usr/bin/grub-mkimage"
    fi
    $mkimage -d "$modules/$GRUB_FORMAT" -O "$GRUB_FORMAT" -p "$GRUB_PREFIX" -o /tmp/core.img $GRUB_MODULES
    mkdir -p "$tree/boot/grub"
    cp -r "$tree$modules/$GRUB_FORMAT" "$tree/boot/grub/"
    if [ "$GRUB_FORMAT" = i386-pc ]; then
        # What grub-install does: the check for a bad drive number becomes two no-ops on hard disks
        # (GRUB_BOOT_MACHINE_DRIVE_CHECK, 0x66), the core image follows the boot sector.
        cp "$tree$modules/i386-pc/boot.img" "$WORK/gap.img"
        printf '\220\220' | dd of="$WORK/gap.img" bs=1 seek=102 conv=notrunc status=none
        cat "$tree/tmp/core.img" >> "$WORK/gap.img"
    else
        mkdir -p "$WORK/esp/EFI/debian"
        cp "$tree/tmp/core.img" "$WORK/esp/EFI/debian/grubx64.efi"
    fi ;;
SystemdBoot)
    mkdir -p "$WORK/esp/EFI/systemd" "$WORK/esp/debian/$KERNEL"
    # Debian 13 has it signed only, under another name.
    cp "$tree"/usr/lib/systemd/boot/efi/systemd-bootx64.efi* "$WORK/esp/EFI/systemd/systemd-bootx64.efi"
    cp "$tree/boot/vmlinuz-$KERNEL" "$WORK/esp/debian/$KERNEL/linux"
    cp "$tree$initrd" "$WORK/esp/debian/$KERNEL/" ;;
Extlinux)
    mkdir -p "$tree/boot/extlinux"
    cp "$tree/usr/lib/syslinux/mbr/mbr.bin" "$WORK/gap.img" ;;
GrubLegacy)
    mkdir -p "$tree/boot/grub"
    cp "$tree"/usr/lib/grub/*-pc/* "$tree/boot/grub/" ;;
esac
[ -z "$ESP_SIZE" ] || mkdir -p "$tree/boot/efi"
rm -rf "$tree"/var/lib/apt/lists/* "$tree"/var/cache/apt/*.bin "$tree"/var/cache/apt/archives/*.deb "$tree/var/cache/newer-grub"

# --- the file systems, by the guest's own tools -----------------------------------------------------------------------------
truncate -s "$ROOT_SIZE" "$WORK/root.img"
[ -z "$BOOT_SIZE" ] || truncate -s "$BOOT_SIZE" "$WORK/boot.img"
mkdir -p "$tree/tmp/work"
mount --bind "$WORK" "$tree/tmp/work"
case $FS in
    ext4) chroot "$tree" mke2fs -q -F -t ext4 -L root -U "$ROOT_UUID" -E lazy_itable_init=0 /tmp/work/root.img ;;
    xfs) chroot "$tree" mkfs.xfs -q -f -L root -m "uuid=$ROOT_UUID" /tmp/work/root.img ;;
    btrfs) chroot "$tree" mkfs.btrfs -q -f -L root -U "$ROOT_UUID" /tmp/work/root.img ;;
    f2fs) chroot "$tree" mkfs.f2fs -q -f -l root -U "$ROOT_UUID" /tmp/work/root.img ;;
esac
if [ -n "$BOOT_SIZE" ]; then
    # What the boot loader can read: SYSLINUX no 64-bit block numbers, GRUB 0.97 no large inodes either.
    case $LOADER in
        GrubLegacy) options="-t ext2 -I 128 -O ^resize_inode,^dir_index" ;;
        *) options="-t ext4 -O ^64bit,^metadata_csum" ;;
    esac
    chroot "$tree" mke2fs -q -F $options -L boot -U "$BOOT_UUID" /tmp/work/boot.img
fi
if [ "$FS" = f2fs ]; then
    # The host's kernel need not know it. The tree is bound alone, without what is mounted in it.
    mkdir "$tree/tmp/tree"
    mount --bind "$tree" "$tree/tmp/tree"
    chroot "$tree" sload.f2fs -P -f /tmp/tree /tmp/work/root.img > "$WORK/sload.log"
    umount "$tree/tmp/tree"
fi
umount "$tree/tmp/work" "$tree/tmp" "$tree/proc"
if [ "$FS" != f2fs ]; then
    mount -o loop "$WORK/root.img" "$mnt"
    if [ "$FS" = btrfs ]; then
        # Compressed, as Fedora's installer leaves it.
        btrfs -q subvolume create "$mnt/@"
        btrfs -q subvolume create "$mnt/@home"
        umount "$mnt"
        mount -o loop,subvol=@,compress=zstd:1 "$WORK/root.img" "$mnt"
    fi
    if [ -n "$BOOT_SIZE" ]; then
        mkdir "$mnt/boot"
        mount -o loop "$WORK/boot.img" "$mnt/boot"
    fi
    cp -a "$tree/." "$mnt/"
    if [ "$LOADER" = Extlinux ]; then
        mount -t proc proc "$mnt/proc"
        mount --rbind /sys "$mnt/sys"
        mount --rbind /dev "$mnt/dev"
        chroot "$mnt" extlinux --install /boot/extlinux
        umount -R "$mnt/dev" "$mnt/sys" "$mnt/proc"
    fi
    [ -z "$BOOT_SIZE" ] || umount "$mnt/boot"
    umount "$mnt"
fi

# --- GRUB 0.97 into a disk of its own, with the boot partition at its place -------------------------------------------------
if [ "$LOADER" = GrubLegacy ]; then
    disk=$WORK/legacy.img
    truncate -s "$DISK_SIZE" "$disk"
    sfdisk --quiet --no-reread --no-tell-kernel "$disk" < "$WORK/table"
    dd if="$WORK/boot.img" of="$disk" bs=1M seek="$BOOT_MIB_OFFSET" conv=notrunc,sparse status=none
    mount -t tmpfs tmpfs "$tree/tmp"
    mkdir "$tree/tmp/work"
    mount --bind "$WORK" "$tree/tmp/work"
    echo '(hd0) /tmp/work/legacy.img' > "$tree/tmp/device.map"
    printf 'root (hd0,0)\nsetup (hd0)\nquit\n' | chroot "$tree" grub --batch --no-floppy --device-map=/tmp/device.map \
        > "$WORK/legacy.log" 2>&1 || true
    grep -q 'succeeded' "$WORK/legacy.log" && ! grep -q 'Error ' "$WORK/legacy.log" || { cat "$WORK/legacy.log" >&2; exit 1; }
    umount "$tree/tmp/work" "$tree/tmp"
    dd if="$disk" of="$WORK/gap.img" bs=1M count=1 status=none
    dd if="$disk" of="$WORK/boot.img" bs=1M skip="$BOOT_MIB_OFFSET" count="$((BOOT_SIZE >> 20))" conv=notrunc,sparse status=none
    rm "$disk"
fi

# --- the ESP ------------------------------------------------------------------------------------------------------------------
if [ -n "$ESP_SIZE" ]; then
    truncate -s "$ESP_SIZE" "$WORK/esp.img"
    mkfs.vfat -F 32 -n ESP --invariant -i "$ESP_ID" "$WORK/esp.img" > "$WORK/vfat.log"
    (cd "$WORK/esp" && mcopy -s -i "$WORK/esp.img" ./* ::/)
fi
