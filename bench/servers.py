"""Servers for the benchmarks of remote archives, on loopback: an S3 gateway, and a delay in front of it."""
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time

from harness import PROJECT, command, temporary

VERSITYGW = os.environ.get("TESSERAFS_VERSITYGW", str(PROJECT / ".cache/bin/versitygw"))
ACCESS, SECRET, REGION = "tesserafs-bench", "a-secret-for-loopback", "us-east-1"


def signed():
    """The environment of programs that ask the gateway: nothing of AWS but its key."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return kept | {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": REGION,
                   "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true"}


@contextlib.contextmanager
def gateway(**buckets):
    """versitygw with directories as buckets, which it leaves as they are; its address."""
    path = shutil.which(VERSITYGW)
    if path is None:
        sys.exit(f"bench: there is no {VERSITYGW}: run scripts/setup.sh bench, or name one in TESSERAFS_VERSITYGW")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with temporary() as top:
        root, notes, log = (os.path.join(top, name) for name in ("buckets", "notes", "log"))
        os.mkdir(root)
        os.mkdir(notes)
        for name, directory in buckets.items():
            os.symlink(directory, os.path.join(root, name))
        with open(log, "w") as output:
            # A session of its own: Ctrl-C is for the benchmark, which unmounts before the gateway goes.
            process = subprocess.Popen(
                [path, "--port", address, "--access", ACCESS, "--secret", SECRET, "--region", REGION, "--keep-alive", "--quiet",
                 "posix", "--bucketlinks", "--sidecar", notes, root],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
        try:
            host, _, port = address.partition(":")
            for _ in range(100):
                with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
                    break
                if process.poll() is not None:
                    break
                time.sleep(0.1)
            else:
                process.kill()
            if process.poll() is not None:
                sys.exit(f"bench: {path} does not serve: {open(log).read()[-500:]}")
            yield f"http://{address}"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Delay:
    """bench/delay, as long as the block runs: url is its address, requests what it has told of so far."""

    program = PROJECT / ".cache/bin/bench-delay"

    def __init__(self, seconds, to=None, directory=None):
        self.arguments = ["-add", f"{seconds}s", *(["-to", to] if to else ["-dir", directory])]
        self.requests = []

    def __enter__(self):
        command(["go", "build", "-o", self.program, "./bench/delay"], cwd=PROJECT)
        self.process = subprocess.Popen([self.program, *self.arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, start_new_session=True)
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            sys.exit(f"bench: {self.program} does not serve")
        self.listener = threading.Thread(target=self.listen, daemon=True)
        self.listener.start()
        return self

    def listen(self):
        for line in self.process.stdout:
            self.requests.append(json.loads(line))

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.listener.join()
        self.process.stdout.close()

    def settle(self, busy=lambda: False):
        """Wait until nothing more comes: what was read ahead is counted with what it was for."""
        seen = -1
        while seen != len(self.requests) or busy():
            seen = len(self.requests)
            time.sleep(0.3)

    def since(self, mark):
        return Asked(self.requests[mark:])


SMALL = 64 << 10  # bytes of an answer


class Asked:
    """What a server was asked for."""

    def __init__(self, lines):
        self.lines = lines
        self.requests = len(lines)
        self.small = sum(line["bytes"] <= SMALL for line in lines)
        self.left = sum(not line["status"] for line in lines)  # that the client did not wait for
        self.bytes = sum(line["bytes"] for line in lines)
        self.series = in_series(lines)


def in_series(requests):
    """The most requests of which each came after the one before had ended: where one client waits for
    answers before it asks again, that is how often it waited."""
    count, last = 0, float("-inf")
    for request in sorted(requests, key=lambda request: request["ended"]):
        if request["begun"] >= last:
            count, last = count + 1, request["ended"]
    return count
