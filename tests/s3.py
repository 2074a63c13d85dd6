"""A bucket on this machine: moto's S3 server, and a proxy before it that breaks requests on demand."""

import logging
import os
import socket
import struct
import threading
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUCKET = "night"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def s3_server():
    """Serve an empty bucket; yield the endpoint. The usual AWS variables name it while the block lasts."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    before = dict(os.environ)
    os.environ.update(CREDENTIALS, AWS_ENDPOINT_URL=endpoint)
    try:
        client().create_bucket(Bucket=BUCKET)
        yield endpoint
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.stop()


def client():
    """Return a client of the server that the environment names."""
    import botocore.session

    return botocore.session.get_session().create_client("s3")


def objects(url):
    """Everything below an ``s3://`` URL: names and bytes."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    s3, found = client(), {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/"):
        for entry in page.get("Contents", []):
            found[entry["Key"][len(prefix) + 1 :]] = s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
    return found


class FaultProxy:
    """Stands before an S3 server. `decide(number, method, path)` names what happens to a request.

    "" forwards it; "503" and "403" refuse it; "stall" never answers; "reset" cuts the connection unread; "lose"
    forwards it, then cuts the connection, so that the reply is lost. PUTs are numbered from 1, others have number 0.
    """

    def __init__(self, target, decide):
        self.target = target.removeprefix("http://")
        self.decide = decide
        self.lock = threading.Lock()
        self.puts = 0
        self.broken = []  # what was done to which path
        self.ended = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.daemon_threads = True
        self.server.proxy = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def fault(self, method, path):
        """Count a request and say what happens to it."""
        with self.lock:
            self.puts += method == "PUT"
            fault = self.decide(self.puts if method == "PUT" else 0, method, path)
            if fault:
                self.broken.append((fault, path))
            return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def forward(self):
        body = self._body()
        fault = self.server.proxy.fault(self.command, self.path)
        if fault == "stall":
            self.server.proxy.ended.wait()
        if fault in ("stall", "reset"):
            self._cut()
        elif fault in _REFUSALS:
            self._answer(int(fault), {"Content-Type": "application/xml"}, _REFUSALS[fault])
        else:
            reply = self._ask(body)
            if fault == "lose":
                self._cut()
            else:
                self._answer(*reply)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward  # noqa: N815 - the names that are called

    def _body(self):
        if self.headers.get("Expect") == "100-continue":
            self.send_response_only(100)
            self.end_headers()
            del self.headers["Expect"]
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _ask(self, body):
        upstream = HTTPConnection(self.server.proxy.target, timeout=60)
        try:
            upstream.request(self.command, self.path, body, dict(self.headers.items()))
            reply = upstream.getresponse()
            return reply.status, dict(reply.getheaders()), reply.read()
        finally:
            upstream.close()

    def _answer(self, status, headers, data):
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _cut(self):
        self.close_connection = True
        linger = struct.pack("ii", 1, 0)  # close with a reset
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()

    def log_message(self, *arguments):
        return


_REFUSALS = {
    "503": b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
    "403": b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>",
}
