#!/bin/sh
# Runs a command. One that is not done in time hangs: shows what it and its children are at, and ends those.
#
#   scripts/watched.sh SECONDS COMMAND ARGUMENTS…
set -eu

seconds=$1
shift

# children PID: what it has started, but for the watch itself.
children() {
    cat "/proc/$1/task/"*/children | tr ' ' '\n' | grep -vx -e "$watch" -e ''
}

# show PID: the process, its threads, and what it has started. Any of them may end meanwhile.
show() {
    echo "$1: $(tr '\0' ' ' <"/proc/$1/cmdline" | cut -c 1-400)"
    for thread in "/proc/$1/task/"*; do
        echo "    thread $(cat "$thread/comm"): $(cat "$thread/wchan")"
    done
    for started in $(children "$1"); do show "$started"; done
}

# The command takes this process, so that Ctrl-C reaches it; the watch ends with it. One that nobody has waited for yet has
# no command line any more.
(
    read -r watch _ </proc/self/stat
    while [ "$seconds" -gt 0 ]; do
        grep -q . "/proc/$$/cmdline" 2>/dev/null || exit 0
        sleep 1
        seconds=$((seconds - 1))
    done
    echo "Not done in time:"
    show $$ 2>/dev/null || true
    for started in $(children $$); do kill "$started"; done
) >&2 &
exec "$@"
