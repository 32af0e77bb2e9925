"""Starts the emulator on a free loopback port and prints its address as one line of JSON.

Ends when its standard input closes: it never outlives whoever started it.
"""

import json
import os
import sys
import threading

# Read by moto when it is imported: no 1,300 foreign images, and mistakes are refused as EC2 does.
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
os.environ.setdefault("MOTO_ENABLE_AMI_VALIDATION", "true")
os.environ.setdefault("MOTO_ENABLE_KEYPAIR_VALIDATION", "true")
os.environ.setdefault("MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION", "true")

from moto.moto_server.werkzeug_app import (  # noqa: E402
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server  # noqa: E402

from . import gaps  # noqa: E402
from .control import Control  # noqa: E402


class QuietHandler(MotoRequestHandler):
    """Says nothing about requests: the control endpoint counts them."""

    def log_request(self, code="-", size="-"):
        pass


def main():
    gaps.close()
    application = Control(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=QuietHandler)
    threading.Thread(target=end_with_stdin, daemon=True).start()
    print(json.dumps({"url": f"http://127.0.0.1:{server.server_port}"}), flush=True)
    server.serve_forever()


def end_with_stdin():
    sys.stdin.buffer.read()
    os._exit(0)


main()
