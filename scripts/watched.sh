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

# tree PID: all that it has started, and that they have.
tree() {
    for started in $(children "$1"); do
        echo "$started"
        tree "$started"
    done
}

# show PID: the process, its threads, and what it has started. Any of them may end meanwhile.
show() {
    echo "$1: $(tr '\0' ' ' <"/proc/$1/cmdline" | cut -c 1-400)"
    for thread in "/proc/$1/task/"*; do
        echo "    thread $(cat "$thread/comm"): $(cat "$thread/wchan")"
    done
    for started in $(children "$1"); do show "$started"; done
}

# The command takes this process, so that Ctrl-C reaches it; the watch ends with it, or when that is a zombie: whoever started
# it may read to the end of what we hold open before looking after it.
(
    set +e
    read -r watch _ </proc/self/stat
    while [ "$seconds" -gt 0 ]; do
        grep -q '^State:.[^XZ]' "/proc/$$/status" || exit
        sleep 1
        seconds=$((seconds - 1))
    done
    { echo "Not done in time:" && show $$; } >&3
    all=$(tree $$)
    echo "$all" | xargs --no-run-if-empty kill
    sleep 5
    { echo "$all" && tree $$; } | xargs --no-run-if-empty kill -KILL
) 3>&2 </dev/null >/dev/null 2>&1 &
exec "$@"
