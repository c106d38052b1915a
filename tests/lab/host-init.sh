#!/bin/sh
# Process 1 of a host until systemd takes over: builds the host's root, makes it the root, starts systemd.
# Started by labd with the host's own mount, uts, ipc, pid, cgroup and network namespace already in place.
#   LAB_NAME   host name                 LAB_DIR     state of this host (upper, work, root, binds)
#   LAB_LOWER  overlay layers, top first LAB_MOUNTS  file: cgroup directory and mount options per line
#   LAB_DROP   capabilities to drop
set -eu
root=$LAB_DIR/root

mount -t overlay overlay -o "lowerdir=$LAB_LOWER,upperdir=$LAB_DIR/upper,workdir=$LAB_DIR/work" "$root"
while IFS='	' read -r source target; do
    mkdir -p "$root$target"
    mount --bind "$source" "$root$target"
    mount -o remount,bind,ro "$root$target"
done <"$LAB_DIR/binds"

mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"

mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
for device in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 666 "$root/dev/${device%:*}" c 1 "${device#*:}"
done
mknod -m 666 "$root/dev/tty" c 5 0
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"

# Every hierarchy must be there and writable: systemd would mount a missing one itself, from the machine's root.
groups=$root/sys/fs/cgroup
grep -q '^\. v2$' "$LAB_MOUNTS" || mount -t tmpfs -o mode=755 tmpfs "$groups"
while read -r directory options; do
    mkdir -p "$groups/$directory"
    if [ "$options" = v2 ]; then
        mount -t cgroup2 cgroup2 "$groups/$directory"
    else
        mount -t cgroup -o "$options" cgroup "$groups/$directory"
    fi
done <"$LAB_MOUNTS"

# Kernel settings belong to the machine, except those of the host's own network.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount --bind "$root/proc/sys/net" "$root/proc/sys/net"
mount -o remount,bind,ro "$root/proc/sys"
# The kernel's boot id is the machine's; without an own one neither Ansible nor the journal sees a reboot.
cat /proc/sys/kernel/random/uuid >"$root/run/.boot_id"
mount --bind "$root/run/.boot_id" "$root/proc/sys/kernel/random/boot_id"
[ ! -e "$root/proc/sysrq-trigger" ] || mount --bind "$root/dev/null" "$root/proc/sysrq-trigger"

hostname "$LAB_NAME"
cd "$root"
pivot_root . mnt
# rshared: without it LoadCredential= hands units empty credentials.
exec chroot . /bin/sh -eu -c '
    umount -l /mnt
    mount --make-rshared /
    exec env -i container=lab PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin \
        setpriv --bounding-set "$LAB_DROP" /lib/systemd/systemd
' </dev/null >/dev/null 2>&1
