#!/bin/sh
# Run as root in a machine from a finished image, after its first boot: tells what the image brought along that its build was
# to remove. What the boot itself made is newer than the boot. $SINDRI_LOOK_FOR says what: "data", "keys", "logins", keys
# that let in somebody else than the one that looks, whose key is $SINDRI_OWN_KEY, and "secrets", what everybody who has the
# image could read or use. Of a file its name is told, never what is in it. A file tree ($SINDRI_ROOT) and when it was booted
# ($SINDRI_BOOTED, seconds since 1970) are for tests.
set -u

root=${SINDRI_ROOT:-}
booted=${SINDRI_BOOTED:-$(sed -n 's/^btime //p' /proc/stat)}
list=$(mktemp)

# Of these those that are as old as the image, and not empty.
brought() {
    why=$1
    shift
    find "$@" -maxdepth 0 ! -type l -size +0 ! -newermt "@$booted" 2>/dev/null | sed "s|^$root\(.*\)|\1: $why|" >>"$list"
}

# Of these those that came with the image and have a line that fits the pattern.
secrets() {
    pattern=$1
    shift
    for file in "$@"; do
        if [ -f "$file" ] && grep -Eqi -e "$pattern" "$file" 2>/dev/null; then
            brought "everybody could use the key, token or password in it: remove it in a step of yours" "$file"
        fi
    done
}

case " $SINDRI_LOOK_FOR " in *" keys "*)
    brought "the host key of all machines from the image" "$root"/etc/ssh/ssh_host_*_key
    ;;
esac
case " $SINDRI_LOOK_FOR " in *" data "*)
    brought "the id of all machines from the image" "$root/etc/machine-id" "$root/var/lib/dbus/machine-id"
    brought "the random seed of all machines from the image" "$root/var/lib/systemd/random-seed"
    for home in "$root/root" "$root"/home/*; do
        brought "what somebody typed" "$home"/.bash_history "$home"/.ash_history "$home"/.zsh_history \
            "$home"/.python_history "$home"/.mysql_history "$home"/.psql_history "$home"/.sqlite_history
    done
    own=$(readlink "$root/var/lib/cloud/instance" || true)
    for instance in "$root"/var/lib/cloud/instances/*; do
        if [ -d "$instance" ] && [ "${instance##*/}" != "${own##*/}" ]; then
            echo "${instance#"$root"}: the builder's instance data" >>"$list"
        fi
    done
    brought "a folder of the build" "$root/var/tmp/sindri-build" "$root/var/tmp/sindri-incoming"
    ;;
esac
case " $SINDRI_LOOK_FOR " in *" logins "*)
    for file in "$root"/root/.ssh/authorized_keys "$root"/root/.ssh/authorized_keys2 \
        "$root"/home/*/.ssh/authorized_keys "$root"/home/*/.ssh/authorized_keys2; do
        # Whatever its age: the boot adds our key to what the image brought along.
        others=$(sed '/^[[:space:]]*\(#.*\)*$/d' "$file" 2>/dev/null | grep -vF "$SINDRI_OWN_KEY")
        if [ -n "$others" ]; then
            echo "${file#"$root"}: lets somebody into all machines from the image" >>"$list"
        fi
    done
    ;;
esac
case " $SINDRI_LOOK_FOR " in *" secrets "*)
    # A hash, or nothing at all, lets in; "!" and "*" do not.
    if grep -Eq '^root:([^!*:]|:)' "$root/etc/shadow" 2>/dev/null; then
        echo "/etc/shadow: root has a password, or needs none: lock it in a step of yours (passwd -l root)" >>"$list"
    fi
    find "$root/var/log" -xdev -type f -size +0 ! -newermt "@$booted" 2>/dev/null | sort | head -n 10 |
        sed "s|^$root\(.*\)|\1: what the build logged: end what writes to it in a step of yours|" >>"$list"
    for home in "$root/root" "$root"/home/*; do
        secrets 'aws_(secret_access_key|session_token)' "$home"/.aws/credentials "$home"/.aws/config
        secrets '"(accessToken|SessionToken)"' "$home"/.aws/sso/cache/*.json "$home"/.aws/cli/cache/*.json
        secrets '"(auth|identitytoken|registrytoken)"[[:space:]]*:[[:space:]]*"[^"]' "$home"/.docker/config.json \
            "$home"/.config/containers/auth.json
        secrets '(^|[[:space:]])password([[:space:]]|$)' "$home"/.netrc
        secrets '://[^/]*:[^/]*@' "$home"/.git-credentials
        secrets . "$home"/.config/gcloud/credentials.db "$home"/.config/gcloud/access_tokens.db \
            "$home"/.config/gcloud/application_default_credentials.json \
            "$home"/.config/gcloud/legacy_credentials/*/adc.json
        secrets . "$home"/.azure/accessTokens.json "$home"/.azure/msal_token_cache.* \
            "$home"/.azure/service_principal_entries.*
        secrets '^[[:space:]-]*(token|password|client-key-data|client-key|id-token|refresh-token):[[:space:]]*("[^"]|[^"[:space:]])' \
            "$home"/.kube/config
        secrets '^-----BEGIN .*PRIVATE KEY' "$home"/.ssh/*
    done
    secrets '(^|[[:space:]])password([[:space:]]|$)' "$root"/etc/apt/auth.conf "$root"/etc/apt/auth.conf.d/*
    ;;
esac

code=0
if [ -s "$list" ]; then
    echo "the image is not clean:"
    cat "$list"
    code=1
fi
rm -f "$list"
exit "$code"
