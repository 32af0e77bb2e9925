"""What there is in all regions: the oracle for "nothing is left"."""

from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2 import ec2_backends


def inventory():
    """Ids by kind. What every account has from the start, such as default security groups, does not count."""
    while True:
        try:
            return taken()
        except RuntimeError:
            # A request changed something while it was copied.
            continue


def taken():
    """The inventory, from copies: requests go on meanwhile."""
    found = {kind: [] for kind in ("instances", "volumes", "snapshots", "images", "key_pairs", "security_groups")}
    for _, backend in sorted(list(ec2_backends[DEFAULT_ACCOUNT_ID].items()), key=lambda item: item[0]):
        instances = [one for many in list(backend.reservations.values()) for one in list(many.instances)]
        found["instances"] += [one.id for one in instances if one.state != "terminated"]
        found["volumes"] += list(backend.volumes)
        found["snapshots"] += list(backend.snapshots)
        found["images"] += list(backend.amis)
        found["key_pairs"] += [pair.id for pair in list(backend.key_pairs.values())]
        groups = [group for groups in list(backend.groups.values()) for group in list(groups.values())]
        found["security_groups"] += [group.id for group in groups if group.name != "default"]
    return {kind: sorted(ids) for kind, ids in found.items()}
