"""S3 for tests: versitygw over directories, on loopback."""
import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

from mount import PROJECT

ACCESS, SECRET = "tesserafs-tests", "a-secret-that-must-not-be-shown"


def _versitygw():
    """The program: in .cache/bin, on the PATH, or where TESSERAFS_VERSITYGW says."""
    for place in PROJECT / ".cache/bin/versitygw", "versitygw", os.environ.get("TESSERAFS_VERSITYGW", ""):
        if found := place and shutil.which(str(place)):
            return found
    raise AssertionError("the tests need versitygw, which is not installed: run `make setup`")


class Gateway:
    """A gateway with buckets {name: directory}, as long as the block runs; environment is what its clients need."""

    def __init__(self, directory, buckets):
        self.dir = pathlib.Path(directory)
        self.process = None
        for path in "buckets", "metadata", "home":
            (self.dir / path).mkdir(parents=True)
        for name, root in buckets.items():
            (self.dir / "buckets" / name).symlink_to(pathlib.Path(root).absolute())
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{self.address}"
        nothing = {name: os.devnull for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")}
        self.environment = nothing | {"AWS_EC2_METADATA_DISABLED": "true", "AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET,
                                      "AWS_REGION": "us-east-1", "AWS_PROFILE": "", "AWS_ENDPOINT_URL": ""}

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        command = [_versitygw(), "--port", self.address, "--access", ACCESS, "--secret", SECRET, "--region", "us-east-1",
                   "--quiet", "posix", "--bucketlinks", "--sidecar", str(self.dir / "metadata"), str(self.dir / "buckets")]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.dir / "home"), "TESSERAFS_RUN": os.environ.get("TESSERAFS_RUN", "")}
        with open(self.dir / "log", "ab") as log:
            self.process = subprocess.Popen(command, cwd=self.dir, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(self.url, timeout=1).close()
                return
            except urllib.error.HTTPError:
                return  # an answer
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline, (self.dir / "log").read_text()
                time.sleep(0.02)

    def stop(self):
        """End it, as a crash does."""
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)
            self.process = None
