#!/bin/sh
# Installs packages on top of a base image, into an overlay layer, with every service left off.
# Runs in mount and pid namespaces of its own: its mounts end with it, however it ends.
#   install-packages.sh BASE UPPER WORK ROOT PROXY PACKAGE...
set -eu
base=$1 upper=$2 work=$3 root=$4 proxy=$5
shift 5

mount -t overlay overlay -o "lowerdir=$base,upperdir=$upper,workdir=$work" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 666 "$root/dev/${device%:*}" c 1 "${device#*:}"
done
mkdir -m 1777 "$root/dev/shm"
mount -t tmpfs tmpfs "$root/run"

printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
inside() {
    chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@" </dev/null
}
# The base's own apt setting names the lab's proxy, which is not up yet.
inside apt-get -q -o "Acquire::http::Proxy=$proxy" -o "Acquire::https::Proxy=$proxy" \
    install -y --no-install-recommends "$@"
inside apt-get clean
# A role must enable what it needs, as it must on a machine where the package is new.
for unit in "$upper"/etc/systemd/system/multi-user.target.wants/*.service; do
    [ ! -L "$unit" ] || inside systemctl disable "${unit##*/}"
done
rm "$root/usr/sbin/policy-rc.d"
umount "$root/run" "$root/dev" "$root/proc"
umount "$root"
