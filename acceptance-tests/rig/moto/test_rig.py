"""The emulator as boto3, which we did not write, sees it: python -m unittest, in this folder."""

import json
import socket
import subprocess
import sys
import time
import unittest
import urllib.error
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, HTTPClientError

ONCE = Config(retries={"total_max_attempts": 1})


class Rig(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.process = subprocess.Popen(
            [sys.executable, "-m", "rig"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        print("start", file=cls.process.stdin, flush=True)
        cls.url = json.loads(cls.process.stdout.readline())["url"]

    @classmethod
    def tearDownClass(cls):
        cls.process.stdin.close()
        cls.process.wait(timeout=10)
        cls.process.stdout.close()

    def setUp(self):
        self.ec2 = self.client("ec2")
        self.rig("DELETE", "faults")
        self.rig("DELETE", "requests")

    def client(self, service, region="us-west-2"):
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.client(service, region_name=region, endpoint_url=self.url, config=ONCE, **keys)

    def rig(self, method, path, body=None):
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"{self.url}/_rig/{path}", data=data, method=method)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def register(self, name, **more):
        return self.ec2.register_image(Name=name, Architecture="arm64", RootDeviceName="/dev/xvda", **more)["ImageId"]

    def launch(self, image, token="", **more):
        asked = {"ImageId": image, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1, **more}
        made = self.ec2.run_instances(**asked, **({"ClientToken": token} if token else {}))
        return made["Instances"][0]["InstanceId"]

    def test_listings_have_pages(self):
        mine = [self.register(f"page-{number}") for number in range(5)]
        machines = [self.launch(mine[0]) for _ in range(3)]
        self.rig("POST", "pages", {"most": 2})
        try:
            images = self.ec2.describe_images(Owners=["self"], MaxResults=1000)
            self.assertEqual((len(images["Images"]), "NextToken" in images), (2, True))
            self.assertNotIn("NextToken", self.ec2.describe_images(Owners=["self"]))
            for listing, name, owner in [
                ("describe_images", "Image", {"Owners": ["self"]}),
                ("describe_snapshots", "Snapshot", {"OwnerIds": ["self"]}),
            ]:
                wanted = [one[f"{name}Id"] for one in getattr(self.ec2, listing)(**owner)[f"{name}s"]]
                pages = self.ec2.get_paginator(listing).paginate(**owner, PaginationConfig={"PageSize": 1000})
                found = [one[f"{name}Id"] for page in pages for one in page[f"{name}s"]]
                self.assertEqual(sorted(found), sorted(wanted))
            pages = list(self.ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 1000}))
            reservations = [one for page in pages for one in page["Reservations"]]
            found = {machine["InstanceId"] for one in reservations for machine in one["Instances"]}
            self.assertTrue(len(pages) > 1 and found.issuperset(machines))
            self.refused("InvalidParameterCombination", self.ec2.describe_images, ImageIds=mine[:1], MaxResults=5)
        finally:
            self.rig("POST", "pages", {"most": 1000})

    def test_a_reset_has_no_effect(self):
        image = self.register("reset")
        self.rig("POST", "faults", {"action": "DeregisterImage", "kind": "reset"})
        with self.assertRaises(ConnectionClosedError):
            self.ec2.deregister_image(ImageId=image)
        self.ec2.deregister_image(ImageId=image)
        self.rig("POST", "faults", {"action": "DescribeImages", "kind": "reset"})
        body = b"Action=DescribeImages"
        with socket.create_connection(self.url.removeprefix("http://").split(":")) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            with self.assertRaises(ConnectionResetError):
                connection.recv(1)

    def refused(self, code, call, **arguments):
        with self.assertRaises(ClientError) as caught:
            call(**arguments)
        self.assertEqual(caught.exception.response["Error"]["Code"], code)
        return caught.exception.response

    def test_a_key_pair_is_deleted_by_its_id(self):
        pairs = [self.ec2.create_key_pair(KeyName=name)["KeyPairId"] for name in ("by-id", "other")]
        self.ec2.delete_key_pair(KeyPairId=pairs[0])
        found = self.ec2.describe_key_pairs(Filters=[{"Name": "key-pair-id", "Values": pairs}])["KeyPairs"]
        self.assertEqual([pair["KeyName"] for pair in found], ["other"])

    def test_a_spot_instance_of_a_fleet_tells_where_it_is_from(self):
        group = self.ec2.create_security_group(GroupName="spot", Description="x")["GroupId"]
        data = {"ImageId": self.register("spot"), "InstanceType": "t3.micro", "SecurityGroupIds": [group]}
        made = self.ec2.create_launch_template(LaunchTemplateName="spot", LaunchTemplateData=data)
        fleet = self.ec2.create_fleet(
            LaunchTemplateConfigs=[{"LaunchTemplateSpecification": {"LaunchTemplateName": "spot", "Version": "1"}}],
            TargetCapacitySpecification={"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "spot"},
            Type="instant",
        )
        by_template = {
            "Name": "tag:aws:ec2launchtemplate:id",
            "Values": [made["LaunchTemplate"]["LaunchTemplateId"]],
        }
        [reservation] = self.ec2.describe_instances(Filters=[by_template])["Reservations"]
        [instance] = reservation["Instances"]
        self.assertEqual([instance["InstanceId"]], fleet["Instances"][0]["InstanceIds"])
        self.assertEqual([one["GroupId"] for one in instance["SecurityGroups"]], [group])
        requests = self.ec2.describe_spot_instance_requests(SpotInstanceRequestIds=[instance["SpotInstanceRequestId"]])
        self.assertEqual(requests["SpotInstanceRequests"][0]["InstanceId"], instance["InstanceId"])

    def test_an_image_is_encrypted_as_the_volume_is(self):
        key = "arn:aws:kms:us-west-2:123456789012:key/mrk-1234"
        root = {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 8, "Encrypted": True, "KmsKeyId": key}}
        for mappings, expected in [([root], (True, key)), ([], (False, None))]:
            instance = self.launch(self.register(f"plain-{len(mappings)}"), BlockDeviceMappings=mappings)
            image = self.ec2.create_image(InstanceId=instance, Name=f"image-{len(mappings)}")["ImageId"]
            [made] = self.ec2.describe_images(ImageIds=[image])["Images"]
            snapshot = made["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
            [found] = self.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]
            self.assertEqual((found["Encrypted"], found.get("KmsKeyId")), expected)

    def test_instances_take_their_time_when_asked_to(self):
        instance = self.launch(self.register("slow"))

        def state():
            [reservation] = self.ec2.describe_instances(InstanceIds=[instance])["Reservations"]
            return reservation["Instances"][0]["State"]

        self.rig("POST", "instances", {"stopping": 0.2, "shutting-down": 0.2})
        try:
            for ask, on_the_way, end in [
                (self.ec2.stop_instances, ("stopping", 64), ("stopped", 80)),
                (self.ec2.terminate_instances, ("shutting-down", 32), ("terminated", 48)),
            ]:
                ask(InstanceIds=[instance])
                self.assertEqual((state()["Name"], state()["Code"]), on_the_way)
                time.sleep(0.3)
                self.assertEqual((state()["Name"], state()["Code"]), end)
        finally:
            self.rig("POST", "instances", {"stopping": 0, "shutting-down": 0})

    def test_images_are_found_by_their_snapshot(self):
        images = [self.register(name) for name in ("by-snapshot", "by-other-snapshot")]
        described = self.ec2.describe_images(ImageIds=images[:1])["Images"][0]
        snapshot = described["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
        wanted = [{"Name": "block-device-mapping.snapshot-id", "Values": [snapshot, "snap-0"]}]
        found = self.ec2.describe_images(Owners=["self"], Filters=wanted)["Images"]
        self.assertEqual([image["ImageId"] for image in found], images[:1])

    def test_a_registered_image_keeps_what_was_said_of_it(self):
        tags = [{"ResourceType": "image", "Tags": [{"Key": "sindri_key", "Value": "k1"}]}]
        image = self.register("kept", TagSpecifications=tags)
        mine = {"Owners": ["self"], "Filters": [{"Name": "tag-key", "Values": ["sindri_key"]}]}
        [found] = [one for one in self.ec2.describe_images(**mine)["Images"] if one["ImageId"] == image]
        self.assertEqual((found["Architecture"], found["RootDeviceName"]), ("arm64", "/dev/xvda"))
        self.assertEqual((found["RootDeviceType"], found["State"]), ("ebs", "available"))
        self.refused("InvalidAMIName.Duplicate", self.ec2.register_image, Name="kept")

    def test_images_of_an_instance_carry_tags_and_have_names_of_their_own(self):
        instance = self.launch(self.register("source"))
        tags = [
            {"ResourceType": kind, "Tags": [{"Key": "of", "Value": kind}]} for kind in ("image", "snapshot")
        ]
        asked = {"InstanceId": instance, "Name": "made", "TagSpecifications": tags}
        image = self.ec2.create_image(**asked)["ImageId"]
        [made] = self.ec2.describe_images(ImageIds=[image])["Images"]
        self.assertEqual(made["Tags"], [{"Key": "of", "Value": "image"}])
        snapshot = made["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
        [kept] = self.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]
        self.assertEqual(kept["Tags"], [{"Key": "of", "Value": "snapshot"}])
        self.refused("InvalidAMIName.Duplicate", self.ec2.create_image, **asked)

        there = self.client("ec2", "eu-central-1")
        copied = {"SourceImageId": image, "SourceRegion": "us-west-2", "Name": "copied", "CopyImageTags": True}
        copy = there.copy_image(**copied)["ImageId"]
        self.assertEqual(there.describe_images(ImageIds=[copy])["Images"][0]["Tags"][0]["Value"], "image")
        self.refused("InvalidAMIName.Duplicate", there.copy_image, **copied)

    def test_an_image_is_described_and_requires_session_tokens(self):
        image = self.register("attributes")
        self.ec2.modify_image_attribute(ImageId=image, Description={"Value": "for people"})
        self.ec2.modify_image_attribute(ImageId=image, ImdsSupport={"Value": "v2.0"})
        [found] = self.ec2.describe_images(ImageIds=[image])["Images"]
        self.assertEqual((found["Description"], found["ImdsSupport"]), ("for people", "v2.0"))

    def test_a_token_copies_once(self):
        image, there = self.register("copied once"), self.client("ec2", "eu-central-1")
        asked = {"SourceImageId": image, "SourceRegion": "us-west-2", "Name": "copied once", "ClientToken": "c1"}
        copy = there.copy_image(**asked)["ImageId"]
        self.assertEqual(there.copy_image(**asked)["ImageId"], copy)
        self.refused("InvalidAMIName.Duplicate", there.copy_image, **{**asked, "ClientToken": "c2"})

    def test_an_image_is_shared_with_accounts_organisations_and_everybody(self):
        image = self.register("shared")
        asked = {"ImageId": image, "Attribute": "launchPermission"}
        some = [
            {"UserId": "111111111111"},
            {"OrganizationArn": "arn:aws:organizations::111111111111:organization/o-1"},
            {"OrganizationalUnitArn": "arn:aws:organizations::111111111111:ou/o-1/ou-1"},
            {"Group": "all"},
        ]
        self.ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": some})
        self.assertEqual(self.ec2.describe_image_attribute(**asked)["LaunchPermissions"], some)
        self.ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Remove": some[1:]})
        self.assertEqual(self.ec2.describe_image_attribute(**asked)["LaunchPermissions"], some[:1])

    def test_a_description_changes(self):
        image = self.register("described", Description="before")
        self.ec2.modify_image_attribute(ImageId=image, Description={"Value": "after"})
        self.assertEqual(self.ec2.describe_images(ImageIds=[image])["Images"][0]["Description"], "after")

    def test_an_image_is_deprecated_and_not(self):
        image = self.register("old")
        self.ec2.enable_image_deprecation(ImageId=image, DeprecateAt="2031-01-02T03:04:00Z")
        [found] = self.ec2.describe_images(ImageIds=[image])["Images"]
        self.assertTrue(found["DeprecationTime"].startswith("2031-01-02T03:04"), found["DeprecationTime"])
        self.ec2.disable_image_deprecation(ImageId=image)
        [found] = self.ec2.describe_images(ImageIds=[image])["Images"]
        self.assertFalse(found.get("DeprecationTime"))

    def test_a_token_launches_once(self):
        image = self.register("once")
        first = self.launch(image, token="t1")
        self.assertEqual(self.launch(image, token="t1"), first)
        self.assertNotEqual(self.launch(image, token="t2"), first)
        self.assertNotEqual(self.launch(image), self.launch(image))
        asked = {"ImageId": image, "InstanceType": "t3.large", "MinCount": 1, "MaxCount": 1}
        self.refused("IdempotentParameterMismatch", self.ec2.run_instances, **asked, ClientToken="t1")

    def test_mistakes_are_refused(self):
        image = self.register("strict")
        asked = {"MinCount": 1, "MaxCount": 1}
        run = self.ec2.run_instances
        self.refused("InvalidAMIID.NotFound", run, ImageId="ami-0123456789abcdef0", InstanceType="t3.micro", **asked)
        self.refused("InvalidInstanceType.NotFound", run, ImageId=image, InstanceType="t3.tiny", **asked)
        self.refused("InvalidKeyPair.NotFound", run, ImageId=image, InstanceType="t3.micro", KeyName="x", **asked)

    def test_a_console_is_its_instances_own(self):
        instance = self.launch(self.register("console"))
        self.assertIn(instance, self.ec2.get_console_output(InstanceId=instance)["Output"])
        self.rig("POST", "console", {"instance": instance, "output": "Kernel panic\n"})
        self.assertEqual(self.ec2.get_console_output(InstanceId=instance)["Output"], "Kernel panic\n")

    def test_images_take_their_time_and_fail_as_ordered(self):
        def state(image):
            return self.ec2.describe_images(ImageIds=[image])["Images"][0]

        self.rig("POST", "images", {"pending": 1, "then": "failed", "reason": "no room"})
        image = self.register("takes its time")
        self.assertEqual(state(image)["State"], "pending")
        time.sleep(1)
        self.assertEqual((state(image)["State"], state(image)["StateReason"]["Message"]), ("failed", "no room"))
        self.rig("POST", "images", {"pending": 0})
        image = self.register("is quick")
        self.assertEqual(state(image)["State"], "available")
        self.ec2.disable_image(ImageId=image)
        self.assertEqual(state(image)["State"], "disabled")

    def test_faults_come_as_ordered_and_are_counted(self):
        image = self.register("faulty")
        asked = {"ImageId": image, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1}
        self.rig("POST", "faults", {"action": "RunInstances", "times": 2})
        for _ in range(2):
            answer = self.refused("RequestLimitExceeded", self.ec2.run_instances, **asked)
            self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], 503)
        before = len(self.rig("GET", "inventory")["instances"])
        self.launch(image)
        self.assertEqual(self.rig("GET", "requests")["RunInstances"], 3)
        denied = {"action": "GetCallerIdentity", "status": 403, "code": "AccessDenied", "message": "no"}
        self.rig("POST", "faults", denied)
        self.refused("AccessDenied", self.client("sts").get_caller_identity)

        self.rig("POST", "faults", {"action": "RunInstances", "kind": "drop", "after": 1})
        self.launch(image, token="dropped")
        with self.assertRaises((ConnectionClosedError, EndpointConnectionError, HTTPClientError)):
            self.ec2.run_instances(**asked, ClientToken="lost")
        # The reply is lost, the effect is not.
        self.assertEqual(len(self.rig("GET", "inventory")["instances"]), before + 3)
        self.launch(image, token="lost")
        self.assertEqual(len(self.rig("GET", "inventory")["instances"]), before + 3)

    def test_a_listing_may_have_nothing_in_it_yet(self):
        image = self.register("unseen")
        listings = {
            "DescribeInstances": (lambda: self.ec2.describe_instances().get("Reservations"), self.launch(image)),
            "DescribeImages": (lambda: self.ec2.describe_images(Owners=["self"]).get("Images"), image),
        }
        for action, (listed, there) in listings.items():
            self.rig("POST", "faults", {"action": action, "kind": "unseen"})
            self.assertIsNone(listed())
            self.assertIn(there, str(listed()))

    def test_the_inventory_tells_what_is_left(self):
        def counts():
            return {kind: len(ids) for kind, ids in self.rig("GET", "inventory").items()}

        before = counts()
        image = self.register("left")
        key = self.ec2.create_key_pair(KeyName="left")["KeyName"]
        group = self.ec2.create_security_group(GroupName="left", Description="left")["GroupId"]
        instance = self.launch(image, KeyName=key, SecurityGroupIds=[group])
        kinds = ("images", "snapshots", "instances", "volumes", "key_pairs", "security_groups")
        self.assertEqual(counts(), {kind: before[kind] + 1 for kind in kinds})
        self.ec2.terminate_instances(InstanceIds=[instance])
        self.ec2.delete_security_group(GroupId=group)
        self.ec2.delete_key_pair(KeyName=key)
        snapshot = self.ec2.describe_images(ImageIds=[image])["Images"][0]["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
        self.refused("InvalidSnapshot.InUse", self.ec2.delete_snapshot, SnapshotId=snapshot)
        self.ec2.deregister_image(ImageId=image)
        self.ec2.delete_snapshot(SnapshotId=snapshot)
        self.assertEqual(counts(), before)

    def test_what_is_no_order_is_not_found(self):
        with self.assertRaises(urllib.error.HTTPError) as caught:
            self.rig("GET", "nothing")
        caught.exception.close()
        self.assertEqual(caught.exception.code, 404)


if __name__ == "__main__":
    unittest.main()
