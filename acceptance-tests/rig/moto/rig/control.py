"""The control endpoint below /_rig, and what it orders: faults, counts, an inventory.

    POST   /_rig/faults     {"action": "RunInstances", "times": 20, "kind": "error",
                             "status": 503, "code": "RequestLimitExceeded", "message": "…"}
                            kind "drop" has the effect and breaks the connection instead of answering;
                            kind "reset" has no effect, and the connection is reset (RST) instead of an answer;
                            kind "late" sleeps for "seconds" first, and is answered then;
                            kind "unseen" is a listing by a place that has heard of nothing yet: it is empty;
                            "after": 2 lets so many requests pass first; "region": "eu-west-1" is about those of a region only
    DELETE /_rig/faults     nothing goes wrong any more
    GET    /_rig/requests   {"RunInstances": 3, …}; DELETE begins anew
    GET    /_rig/inventory  what there is, by kind: instances, volumes, snapshots, images, …
    POST   /_rig/console    {"instance": "i-…", "output": "…"}
    POST   /_rig/images     {"pending": 5, "then": "failed", "reason": "…"}: those made from now on are pending
                            for so many seconds; with 0, they are available at once again
    POST   /_rig/pages      {"most": 2}: listings of images, instances and snapshots come in pages of so many at most
    POST   /_rig/instances  {"pending": 1, "stopping": 2, "shutting-down": 3}: how long instances are in these states
                            that get there from now on, in seconds; with "instead": "stopped" none gets to run
"""

import collections
import io
import json
import os
import socket
import struct
import threading
import time
import urllib.parse
import uuid
from xml.sax.saxutils import escape

from . import gaps
from .inventory import inventory

# How EC2 and STS spell an error; SDKs look for the code in different places.
EC2_ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error><Code>{code}</Code>'
    "<Message>{message}</Message></Error></Errors><RequestID>{request}</RequestID></Response>"
)
STS_ERROR = (
    '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
    "<Code>{code}</Code><Message>{message}</Message></Error><RequestId>{request}</RequestId></ErrorResponse>"
)


# A listing in which there is nothing.
NOTHING = '<{action}Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"/>'


class Control:
    """A WSGI application around moto's."""

    def __init__(self, application):
        self.application = application
        self.lock = threading.Lock()
        self.faults = []
        self.requests = collections.Counter()

    def __call__(self, environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if environ["PATH_INFO"].startswith("/_rig/"):
            return self.controlled(environ, body, start_response)
        environ["wsgi.input"] = io.BytesIO(body)
        action = urllib.parse.parse_qs(body.decode("utf-8", "replace")).get("Action", ["?"])[0]
        fault = self.take(action, environ.get("HTTP_AUTHORIZATION", ""))
        if fault is None:
            return self.application(environ, start_response)
        if fault["kind"] == "late":
            time.sleep(fault["seconds"])
            return self.application(environ, start_response)
        if fault["kind"] == "unseen":
            return reply(start_response, "200 OK", "text/xml", NOTHING.format(action=action))
        if fault["kind"] == "drop":
            # The effect first, then no word of it.
            list(self.application(environ, lambda *_: lambda _: None))
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            start_response("200 OK", [("Content-Length", "0")])
            return [b""]
        if fault["kind"] == "reset":
            connection = environ["werkzeug.socket"]
            # Closed like this, the other end gets an RST. What is written now goes to nobody.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            for nobody in socket.socketpair():
                os.dup2(nobody.fileno(), connection.fileno())
                nobody.close()
            start_response("200 OK", [("Content-Length", "0")])
            return [b""]
        return refuse(environ, fault, start_response)

    def take(self, action, authorization):
        """Counts the request; the fault that it suffers, if any."""
        with self.lock:
            self.requests[action] += 1
            for fault in self.faults:
                if fault["action"] != action or fault["times"] <= 0:
                    continue
                # What is signed is the key, the day, the region and the service.
                if "region" in fault and f"/{fault['region']}/" not in authorization:
                    continue
                if fault["after"] > 0:
                    fault["after"] -= 1
                    continue
                fault["times"] -= 1
                return fault
        return None

    def controlled(self, environ, body, start_response):
        wanted = (environ["REQUEST_METHOD"], environ["PATH_INFO"].removeprefix("/_rig/"))
        answer = {}
        with self.lock:
            match wanted:
                case ("POST", "faults"):
                    self.faults.append({"times": 1, "after": 0, "kind": "error", **json.loads(body)})
                case ("DELETE", "faults"):
                    self.faults.clear()
                case ("GET", "requests"):
                    answer = dict(self.requests)
                case ("DELETE", "requests"):
                    self.requests.clear()
                case ("GET", "inventory"):
                    answer = inventory()
                case ("POST", "console"):
                    order = json.loads(body)
                    gaps.CONSOLES[order["instance"]] = order["output"]
                case ("POST", "images"):
                    gaps.IMAGES.update({"then": "available", "reason": "", **json.loads(body)})
                case ("POST", "pages"):
                    gaps.PAGES.update(json.loads(body))
                case ("POST", "instances"):
                    gaps.INSTANCES.update(json.loads(body))
                case _:
                    start_response("404 Not Found", [("Content-Length", "0")])
                    return [b""]
        return reply(start_response, "200 OK", "application/json", json.dumps(answer))


def refuse(environ, fault, start_response):
    is_sts = "/sts/" in environ.get("HTTP_AUTHORIZATION", "")
    text = (STS_ERROR if is_sts else EC2_ERROR).format(
        code=escape(fault.get("code", "RequestLimitExceeded")),
        message=escape(fault.get("message", "Request limit exceeded.")),
        request=uuid.uuid4(),
    )
    return reply(start_response, f"{fault.get('status', 503)} Fault", "text/xml", text)


def reply(start_response, status, kind, text):
    content = text.encode()
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(content)))])
    return [content]
