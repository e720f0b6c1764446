#!/bin/sh
# Written by v2v: runs the scripts below this directory once each, in order of their names, then removes itself.
# Any POSIX shell will do; of programs it needs only those that every system has.
root=${V2V_FIRSTBOOT_ROOT-}
limit=${V2V_FIRSTBOOT_LIMIT:-1800}
dir=$root/var/lib/v2v/firstboot
log=$root/var/log/v2v-firstboot.log
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH

say() {
    echo "$(date '+%Y-%m-%d %H:%M:%S') v2v-firstboot: $*" >>"$log"
}

# One at a time; the lock of an earlier boot does not count.
lock() {
    boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)
    if [ -f "$dir/lock" ]; then
        read -r old_boot old_pid <"$dir/lock"
        [ "$old_boot" = "$boot" ] && kill -0 "$old_pid" 2>/dev/null && exit 0
    fi
    echo "$boot $$" >"$dir/lock"
}

# What was running when the machine was reset. A script that may be repeated gets one more try, others none.
interrupted() {
    for file in "$dir"/running/*; do
        [ -f "$file" ] || continue
        name=${file##*/}
        case $name in
        *.again)
            say "$name was interrupted and is run again"
            mv "$file" "$dir/scripts/${name%.again}"
            ;;
        *)
            say "$name was interrupted and is not run again"
            mv "$file" "$dir/done/$name"
            ;;
        esac
    done
}

stop() {
    child=$(cat "$dir/child" 2>/dev/null)
    [ -n "$child" ] || return 0
    kill -TERM "-$child" 2>/dev/null || kill -TERM "$child" 2>/dev/null
    sleep 2
    kill -KILL "-$child" 2>/dev/null || kill -KILL "$child" 2>/dev/null
}

# $1: file. What it calls for in its first line runs it, so it needs no right to be executed.
run() {
    file=$1
    name=${file##*/}
    first=
    IFS= read -r first <"$file"
    case $first in
    '#!'*)
        set -f
        # Words are wanted.
        # shellcheck disable=SC2086
        set -- ${first#??}
        set +f
        ;;
    *) set -- /bin/sh ;;
    esac
    if ! command -v "$1" >/dev/null 2>&1; then
        say "$name needs $1, which is not there"
        return 0
    fi
    say "$name starts"
    rm -f "$dir/child" "$dir/rc"
    session=
    command -v setsid >/dev/null 2>&1 && session=setsid
    # shellcheck disable=SC2016
    $session /bin/sh -c 'echo $$ >"$0/child"; "$@" </dev/null; echo $? >"$0/rc.new"; mv "$0/rc.new" "$0/rc"' \
        "$dir" "$@" "$file" </dev/null >>"$log" 2>&1 &
    waited=0
    while [ ! -f "$dir/rc" ]; do
        if [ "$waited" -ge "$limit" ]; then
            stop
            say "$name was stopped: it ran for more than $limit seconds"
            return 0
        fi
        sleep 1
        waited=$((waited + 1))
    done
    say "$name ended with status $(cat "$dir/rc")"
}

# Takes away what starts this script, then the directory with it.
leave() {
    say "all done"
    if [ -f "$dir/hooks" ]; then
        while read -r what path; do
            case $what in
            file) rm -f "$root$path" ;;
            dir) rm -rf "$root$path" ;;
            line)
                grep -v /var/lib/v2v/firstboot/run "$root$path" >"$dir/edited" &&
                    cat "$dir/edited" >"$root$path"
                ;;
            esac
        done <"$dir/hooks"
    fi
    rm -rf "$dir"
    rmdir "$root/var/lib/v2v" 2>/dev/null
    sync
}

main() {
    cd / || exit 0
    umask 022
    [ -d "$dir/scripts" ] || exit 0
    [ -e "$log" ] || (umask 077 && : >>"$log") 2>/dev/null
    [ -w "$log" ] || log=/dev/null
    mkdir -p "$dir/running" "$dir/done"
    lock
    interrupted
    for file in "$dir"/scripts/*; do
        [ -f "$file" ] || continue
        name=${file##*/}
        # Before it runs: whatever it does to the machine, it is not begun a second time.
        mv "$file" "$dir/running/$name" || continue
        sync
        run "$dir/running/$name"
        mv "$dir/running/$name" "$dir/done/$name"
        sync
    done
    leave
}

main
exit 0
