#!/bin/sh
# One Docker engine with nothing of its own outside a folder: engine.sh FOLDER NAME OUTER INNER
#
# It runs in network, mount and process namespaces of its own and ends with its standard input, however the holder of
# the other end ended. The namespaces take along containers, mounts, bridges and packet filters; what is left to
# `clean` is the way out (one link, three rules), the control groups and the folder.
#
#   FOLDER  for socket (FOLDER/sock) and log (FOLDER/log); removed at the end. An engine that is killed is started again
#           where there is FOLDER/again, with what it had
#   NAME    of the link and of the control group; at most 15 characters
#   OUTER   the link's address on the machine, and
#   INNER   the engine's, where published ports are reached; both of one /30 in 198.18.0.0/16, set aside for tests
set -eu

folder=$1 name=$2 outer=$3 inner=$4
locks=/run/lock
marker=$locks/gatehouse-forwarding

rules() { # -I or -D
    iptables -w -t nat "$1" POSTROUTING -s "$inner/30" ! -o "$name" -j MASQUERADE
    iptables -w "$1" FORWARD -i "$name" -j ACCEPT
    iptables -w "$1" FORWARD -o "$name" -j ACCEPT
}

# Forwarding is the machine's: the first engine turns it on where it is off, the last one off again.
way_out() {
    exec 9<"$locks"
    flock 9
    if [ "$(cat /proc/sys/net/ipv4/ip_forward)" = 0 ]; then
        : >"$marker"
        echo 1 >/proc/sys/net/ipv4/ip_forward
    fi
    rules -I
    exec 9<&-
}

clean() {
    exec 9<"$locks"
    flock 9
    rules -D || true
    if [ -e "$marker" ] && ! iptables -w -t nat -S POSTROUTING | grep -q ' -s 198\.18\.'; then
        echo 0 >/proc/sys/net/ipv4/ip_forward
        rm -f "$marker"
    fi
    exec 9<&-
    find /sys/fs/cgroup -depth -type d -path "*/$name*" -exec rmdir {} + 2>/dev/null || true
    rm -rf "$folder"
}

connect() { # in the engine's network namespace
    ip link set lo up
    ip link add eth0 type veth peer name "$name" netns "$KEEPER"
    nsenter --net="/proc/$KEEPER/ns/net" ip addr add "$outer/30" dev "$name"
    nsenter --net="/proc/$KEEPER/ns/net" ip link set "$name" up
    ip addr add "$inner/30" dev eth0
    ip link set eth0 up
    ip route add default via "$outer"
}

serve() { # in all of its namespaces
    # Images and containers are in memory: that halves the time of a build, and they go with the namespaces. So does
    # what is written to /run and /etc/docker whatever one tells it; the machine's settings stay out.
    mkdir "$folder/own"
    mount -n -t tmpfs tmpfs "$folder/own"
    mkdir "$folder/own/data" "$folder/own/etc" "$folder/own/run" "$folder/own/work"
    mount -n -t overlay -o "lowerdir=/run,upperdir=$folder/own/run,workdir=$folder/own/work" overlay /run
    [ ! -d /etc/docker ] || mount -n --bind "$folder/own/etc" /etc/docker
    exec 3<&0
    launch
    # Killed, not stopped: nothing of it is kept.
    { read -r _ <&3 || true; kill -9 "$(cat "$folder/engine")"; } &
    while wait "$engine"; [ -e "$folder/again" ]; do
        rm "$folder/again"
        launch
    done
}

launch() { # the engine, also where one before it was killed
    rm -f "$folder/pid" "$folder/run/containerd/containerd.pid"
    dockerd --host "unix://$folder/sock" --data-root "$folder/own/data" --exec-root "$folder/run" \
        --pidfile "$folder/pid" --cgroup-parent "/$name" \
        --exec-opt native.cgroupdriver=cgroupfs \
        --bip 198.19.0.1/24 --default-address-pool base=198.19.128.0/17,size=24 3<&- &
    engine=$!
    echo "$engine" >"$folder/engine"
}

case "${5:-}" in
"")
    trap clean EXIT
    way_out
    KEEPER=$$ unshare --net sh "$0" "$@" connect
    ;;
connect)
    connect
    exec unshare --mount --pid --fork --mount-proc --kill-child tini -- sh "$0" "$folder" "$name" "$outer" "$inner" serve
    ;;
serve) serve ;;
esac
