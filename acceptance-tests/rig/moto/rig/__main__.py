"""Starts emulators, each with accounts, faults and counts of its own, as processes that listen on loopback.

A line `start` on standard input makes one, and is answered with its address and number as a line of JSON; `end NUMBER`
ends it. Importing moto takes a second of a processor: it is done once, and each emulator is a fork.

All end when standard input closes: they never outlive whoever started them.
"""

import json
import os
import signal
import sys
import threading

# Read by moto when it is imported: no 1,300 foreign images, and mistakes are refused as EC2 does.
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
os.environ.setdefault("MOTO_ENABLE_AMI_VALIDATION", "true")
os.environ.setdefault("MOTO_ENABLE_KEYPAIR_VALIDATION", "true")
os.environ.setdefault("MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION", "true")

from moto.moto_api._internal import mock_random  # noqa: E402
from moto.moto_server.werkzeug_app import (  # noqa: E402
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server  # noqa: E402
from werkzeug.test import Client  # noqa: E402

from . import gaps  # noqa: E402
from .control import Control  # noqa: E402


class QuietHandler(MotoRequestHandler):
    """Says nothing about requests: the control endpoint counts them."""

    def log_request(self, code="-", size="-"):
        pass


def main():
    gaps.close()
    application = DomainDispatcherApplication(create_backend_app)
    load(application)
    their_end, our_end = os.pipe()
    for line in sys.stdin:
        order, *number = line.split()
        if order == "start":
            start(Control(application), their_end, our_end)
        elif order == "end":
            os.kill(int(number[0]), signal.SIGKILL)
            os.waitpid(int(number[0]), 0)


def load(application):
    """Lets moto read what it reads at a first request."""
    client = Client(application)
    for service, version, action in [("ec2", "2016-11-15", "DescribeImages"), ("sts", "2011-06-15", "GetCallerIdentity")]:
        scope = f"test/20260101/us-west-2/{service}/aws4_request"
        headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"}
        client.post("/", data={"Action": action, "Version": version}, headers=headers).close()


def start(application, their_end, our_end):
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=QuietHandler)
    number = os.fork()
    if number == 0:
        os.close(our_end)
        threading.Thread(target=end_with, args=(their_end,), daemon=True).start()
        # Else all would give the same ids.
        mock_random.seed()
        server.serve_forever()
    print(json.dumps({"url": f"http://127.0.0.1:{server.server_port}", "number": number}), flush=True)
    server.server_close()


def end_with(parent):
    """Ends this process with the one that holds the other end of the pipe."""
    os.read(parent, 1)
    os._exit(0)


main()
