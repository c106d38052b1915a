#!/bin/sh
# Enters control groups, then becomes another program: join-groups.sh DIRECTORY... -- COMMAND...
# A shell does it because a member must write its own membership before it starts anything.
set -eu
while [ "$1" != -- ]; do
    echo 0 >"$1/cgroup.procs"
    shift
done
shift
exec "$@"
