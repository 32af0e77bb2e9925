"""Where moto does less than EC2, and a scenario would see it."""

import functools
import threading
import time

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import instances
from moto.ec2.models.amis import Ami, AmiBackend
from moto.ec2.models.fleets import Fleet
from moto.ec2.models.instances import Instance, InstanceBackend
from moto.ec2.responses.amis import AmisResponse
from moto.ec2.responses.elastic_block_store import ElasticBlockStore
from moto.ec2.responses.general import General
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.responses.key_pairs import KeyPairs
from moto.ec2.utils import Base64EncodedString

# What GetConsoleOutput shows, by instance; others show that they booted.
CONSOLES = {}

# How long images that are made from now on are pending, in seconds, and what becomes of them.
IMAGES = {"pending": 0, "then": "available", "reason": ""}

# How long instances take from one state to the next, in seconds, from now on.
INSTANCES = {"pending": 0, "stopping": 0, "shutting-down": 0, "instead": "running"}

# How many objects a page of a listing has at most.
PAGES = {"most": 1000}

# States that EC2 passes through, and their numbers.
CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
ON_THE_WAY_TO = {"running": "pending", "stopped": "stopping", "terminated": "shutting-down"}

_launches = threading.Lock()


def close():
    """Closes all gaps."""
    instances.InstanceState = SlowState
    InstanceBackend.run_instances = idempotent(InstanceBackend.run_instances)
    Fleet.create_spot_requests = as_templates_say(Fleet.create_spot_requests)
    AmiBackend.create_image = with_tags(unique_name(AmiBackend.create_image, position=1))
    AmiBackend.copy_image = unique_name(AmiBackend.copy_image, position=2)
    AmisResponse.copy_image = copy_with_tags
    AmisResponse.describe_image_attribute = with_dry_run(AmisResponse.describe_image_attribute)
    AmisResponse.register_image = register_with_attributes
    AmisResponse.modify_image_attribute = with_values(AmisResponse.modify_image_attribute)
    AmisResponse.enable_image_deprecation = enable_deprecation
    AmisResponse.disable_image_deprecation = disable_deprecation
    AmisResponse.describe_images = in_pages(AmisResponse.describe_images, "Images")
    ElasticBlockStore.describe_snapshots = in_pages(ElasticBlockStore.describe_snapshots, "Snapshots")
    InstanceResponse.describe_instances = in_smaller_pages(InstanceResponse.describe_instances)
    General.get_console_output = console_output
    KeyPairs.delete_key_pair = delete_by_id_too(KeyPairs.delete_key_pair)
    Ami.state = property(image_state, begin_image)
    Ami.state_reason = property(image_state_reason)
    Ami.deprecation_time = None
    Ami.more_volumes = []
    Ami.block_device_mappings = with_more_volumes(Ami.block_device_mappings)
    Ami.imds_support = None
    Ami.get_filter_value = by_snapshot(Ami.get_filter_value)
    # moto writes every image with "standard": what an EBS image says matters to who launches it.
    Ami.root_device_type = property(lambda self: "ebs", lambda self, value: None)


class SlowState:
    """An instance's state, which moto sets at once."""

    def __init__(self, name, code):
        self.name = name

    @property
    def name(self):
        return self.wanted if time.monotonic() >= self.since else self.way

    @name.setter
    def name(self, wanted):
        self.way = ON_THE_WAY_TO.get(wanted)
        self.since = time.monotonic() + INSTANCES.get(self.way, 0)
        self.wanted = INSTANCES["instead"] if wanted == "running" else wanted

    @property
    def code(self):
        return CODES[self.name]

    @code.setter
    def code(self, _):
        """It follows from the name."""


def begin_image(self, state):
    """moto's images are available at once."""
    is_new = not hasattr(self, "course")
    self.course = [(0, state)]
    if is_new and IMAGES["pending"]:
        self.course = [(0, "pending"), (time.monotonic() + IMAGES["pending"], IMAGES["then"])]
        self.fails_because = IMAGES["reason"]


def image_state(self):
    return [state for since, state in self.course if time.monotonic() >= since][-1]


def image_state_reason(self):
    if image_state(self) == "failed":
        return {"Code": "Client.InternalError", "Message": self.fails_because}
    return None


def idempotent(run_instances):
    """The same ClientToken means the same instances; with other parameters it is an error."""

    @functools.wraps(run_instances)
    def run(self, image_id, count, user_data, security_group_names, **kwargs):
        token = kwargs.get("client_token")
        # moto's own stand-in for a missing token.
        if token in (None, "ABCDE"):
            return run_instances(self, image_id, count, user_data, security_group_names, **kwargs)
        launch = (image_id, kwargs.get("instance_type"), kwargs.get("subnet_id"), str(user_data))
        with _launches:
            known = self.__dict__.setdefault("launches_by_token", {})
            if token not in known:
                made = run_instances(self, image_id, count, user_data, security_group_names, **kwargs)
                with_groups(made)
                known[token] = (launch, made)
            before, reservation = known[token]
        if before != launch:
            raise EC2ClientError("IdempotentParameterMismatch", "The client token was used with other parameters.")
        return reservation

    return run


def as_templates_say(create_spot_requests):
    """A fleet's instances have their templates' groups, tell of their spot requests, and tell where they are from."""

    @functools.wraps(create_spot_requests)
    def created(self, weight):
        for spec in self.launch_specs:
            wanted = spec.launch_template_spec
            template = self.ec2_backend.get_launch_template(template_id=wanted["LaunchTemplateId"])
            data = template.get_version(wanted.get("Version", template.default_version_number)).data
            spec.group_set = data.get("SecurityGroupIds", spec.group_set)
        for request in create_spot_requests(self, weight):
            request.instance.spot_instance_request_id = request.id
            template = request.launch_spec.launch_template_spec["LaunchTemplateId"]
            request.instance.add_tags({"aws:ec2launchtemplate:id": template})
        return self.spot_requests

    return created


def with_groups(reservation):
    """An instance has the groups of its first interface."""
    for instance in reservation.instances:
        instance.security_groups = instance.security_groups or list(instance.nics[0].group_set)


def with_dry_run(method):
    """A dry run ends before anything is looked for."""

    @functools.wraps(method)
    def called(self):
        self.error_on_dryrun()
        return method(self)

    return called


def unique_name(make, position):
    """An image's name is taken by one image of the account in a region."""

    @functools.wraps(make)
    def made(self, *args, **kwargs):
        name = kwargs.get("name", args[position] if len(args) > position else None)
        if name and any(ami.name == name and ami.owner_id == self.account_id for ami in list(self.amis.values())):
            message = f"AMI name {name} is already in use by another AMI"
            raise EC2ClientError("InvalidAMIName.Duplicate", message)
        return make(self, *args, **kwargs)

    return made


def with_tags(create_image):
    """Tags for the snapshots of a new image, too, which is encrypted as the instance's volume is."""

    @functools.wraps(create_image)
    def made(self, instance_id, name, description, tag_specifications):
        of_image = [one for one in tag_specifications if one["ResourceType"] != "snapshot"]
        of_snapshot = [one for one in tag_specifications if one["ResourceType"] == "snapshot"]
        ami = create_image(self, instance_id, name, description, of_image)
        for tag in (tag for one in of_snapshot for tag in one.get("Tags", [])):
            ami.ebs_snapshot.add_tag(tag["Key"], tag["Value"])
        instance = self.get_instance(instance_id)
        if root := instance.block_device_mapping.get(instance.root_device_name):
            volume = self.get_volume(root.volume_id)
            ami.ebs_snapshot.encrypted, ami.ebs_snapshot.kms_key_id = volume.encrypted, volume.kms_key_id
        return ami

    return made


def in_pages(describe, name):
    """moto lists these as a whole, whatever is asked for. EC2 gives pages to who asks for some."""

    @functools.wraps(describe)
    def described(self):
        wanted = self._get_param("MaxResults")
        if wanted is None:
            return describe(self)
        if self._get_param("ImageIds") or self._get_param("SnapshotIds"):
            raise EC2ClientError("InvalidParameterCombination", "Ids cannot be used with the parameter maxResults")
        found = list(describe(self).result[name])
        start = int(self._get_param("NextToken") or 0)
        end = start + min(int(wanted), PAGES["most"])
        more = {"NextToken": str(end)} if end < len(found) else {}
        return ActionResult({name: found[start:end], **more})

    return described


def in_smaller_pages(describe):
    """moto has pages of these."""

    @functools.wraps(describe)
    def described(self):
        asked = self._get_param

        def at_most(name, *default):
            value = asked(name, *default)
            return value if name != "MaxResults" or not asked(name) else min(int(value), PAGES["most"])

        self._get_param = at_most
        return describe(self)

    return described


def delete_by_id_too(delete_key_pair):
    """A key pair is named by its id as well."""

    @functools.wraps(delete_key_pair)
    def delete(self):
        wanted = self._get_param("KeyPairId")
        if wanted is None:
            return delete_key_pair(self)
        self.error_on_dryrun()
        for pair in self.ec2_backend.describe_key_pairs([], {"key-pair-id": [wanted]}):
            self.ec2_backend.delete_key_pair(pair.key_name)
        return ActionResult({"Return": True, "KeyPairId": wanted})

    return delete


def by_snapshot(get_filter_value):
    """Images by the snapshot that they are made of."""

    @functools.wraps(get_filter_value)
    def value(self, filter_name, method_name=None):
        if filter_name == "block-device-mapping.snapshot-id":
            return self.ebs_snapshot.id
        return get_filter_value(self, filter_name, method_name)

    return value


def tag_image(response, ami):
    for one in response._get_param("TagSpecifications", []):
        target = ami.ebs_snapshot if one["ResourceType"] == "snapshot" else ami
        for tag in one.get("Tags", []):
            target.add_tag(tag["Key"], tag["Value"])


def copy_with_tags(self):
    self.error_on_dryrun()
    # The same ClientToken means the same copy.
    token, known = self._get_param("ClientToken"), self.ec2_backend.__dict__.setdefault("copies_by_token", {})
    if token in known:
        return ActionResult({"ImageId": known[token]})
    ami = self.ec2_backend.copy_image(
        self._get_param("SourceImageId"),
        self._get_param("SourceRegion"),
        self._get_param("Name"),
        self._get_param("Description"),
    )
    if self._get_bool_param("CopyImageTags", False):
        from moto.ec2 import ec2_backends

        source = ec2_backends[self.current_account][self._get_param("SourceRegion")]
        for tag in source.describe_images(ami_ids=[self._get_param("SourceImageId")])[0].get_tags():
            ami.add_tag(tag["key"], tag["value"])
    tag_image(self, ami)
    if token:
        known[token] = ami.id
    return ActionResult({"ImageId": ami.id})


def register_with_attributes(self):
    self.error_on_dryrun()
    name = self._get_param("Name")
    taken = (ami for ami in list(self.ec2_backend.amis.values()) if ami.owner_id == self.current_account)
    if any(ami.name == name for ami in taken):
        raise EC2ClientError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by another AMI")
    ami = self.ec2_backend.register_image(name, self._get_param("Description", ""))
    ami.architecture = self._get_param("Architecture", "x86_64")
    ami.virtualization_type = self._get_param("VirtualizationType", "hvm")
    ami.root_device_name = self._get_param("RootDeviceName", "/dev/sda1")
    ami.boot_mode = self._get_param("BootMode", "uefi-preferred")
    mappings = self._get_param("BlockDeviceMappings", [])
    ami.more_volumes = [one for one in mappings if one["DeviceName"] != ami.root_device_name]
    tag_image(self, ami)
    return ActionResult({"ImageId": ami.id})


def with_more_volumes(mappings):
    """moto's images have one volume. More are told of, and have no snapshots."""

    @property
    def told(self):
        return mappings.fget(self) + self.more_volumes

    return told


def with_values(modify_image_attribute):
    """A description and whether instance metadata needs session tokens, too."""

    @functools.wraps(modify_image_attribute)
    def modified(self):
        answer = modify_image_attribute(self)
        ami = self.ec2_backend.describe_images(ami_ids=[self._get_param("ImageId")])[0]
        if (text := self._get_param("Description")) is not None:
            ami.description = text.get("Value", "") if isinstance(text, dict) else text
        if imds := self._get_param("ImdsSupport"):
            ami.imds_support = imds.get("Value")
        return answer

    return modified


def enable_deprecation(self):
    self.error_on_dryrun()
    ami = self.ec2_backend.describe_images(ami_ids=[self._get_param("ImageId")])[0]
    ami.deprecation_time = self._get_param("DeprecateAt").strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return ActionResult({"Return": True})


def disable_deprecation(self):
    self.error_on_dryrun()
    self.ec2_backend.describe_images(ami_ids=[self._get_param("ImageId")])[0].deprecation_time = None
    return ActionResult({"Return": True})


def console_output(self):
    instance: Instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
    booted = f"[    0.000000] Linux version 6.1.0\n{instance.id} login: "
    output = Base64EncodedString.from_raw_string(CONSOLES.get(instance.id, booted))
    return ActionResult({"InstanceId": instance.id, "Timestamp": instance.launch_time, "Output": output})
