# Run in a booted guest, by any user: waits until cloud-init is done, and ends as `cloud-init status --long` does (2: with
# errors that it got over). To ask cloud-init itself takes an emulated processor seconds, when it has most to do: it is
# asked where its own files (https://cloudinit.readthedocs.io/en/latest/explanation/return_codes.html) do not say that all
# is well, and after two minutes.
polls=0
while [ -e /run/cloud-init/enabled ] && [ ! -e /run/cloud-init/result.json ] && [ "$polls" -lt 120 ]; do
    sleep 1
    polls=$((polls + 1))
done
! grep -qs '"errors": \[\]' /run/cloud-init/result.json || exit 0
cloud-init status --wait --long </dev/null
