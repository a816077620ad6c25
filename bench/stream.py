"""Whole objects one after another as one stream of obstore, in a fresh process: stream.py URL BUCKET < NAMES.

It prints a line of JSON: seconds and bytes. It signs with what the environment has.
"""
import json
import os
import sys
import time

import obstore
from obstore.store import S3Store


def main(url, bucket):
    store = S3Store(bucket, endpoint=url, access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
                    secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"], region=os.environ["AWS_REGION"],
                    virtual_hosted_style_request=False, client_options={"allow_http": True})
    names = sys.stdin.read().split("\n")
    begun, count = time.perf_counter(), 0
    for name in names:
        for piece in obstore.get(store, name).stream():
            count += len(piece)
    print(json.dumps({"seconds": time.perf_counter() - begun, "bytes": count}))


if __name__ == "__main__":
    main(*sys.argv[1:])
