"""Listing a bucket of a million objects whose storage takes its time for every page: folders of a thousand, one flat folder.

    python -m benchmarks s3_listing 100_000          objects; 1,000,000 without a number

The storage is a small server in a process of its own, which answers lists as S3 does, each after LATENCY_SECONDS. The peer
is the paginator of boto3, as its documentation shows it, which asks for one page after the other.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from bisect import bisect_right
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, quote, urlsplit

from tests.s3 import environment

OBJECTS = 1_000_000
LATENCY_SECONDS = 0.06
LAYOUTS = {
    "folders": lambda number: f"{1_000_000 + number // 1_000}/tape {10_000_000 + number}.mp4",
    "flat": lambda number: f"tape {10_000_000 + number}.mp4",
}
"""Bucket -> number -> key, in the order of the keys."""
_ITEM = (
    "<Contents><Key>{}</Key><LastModified>2023-11-14T22:13:20.000Z</LastModified><ETag>&quot;d41d8cd98f00b204e9800998ecf8427e"
    "&quot;</ETag><Size>1000</Size><StorageClass>STANDARD</StorageClass></Contents>"
)


class _Handler(BaseHTTPRequestHandler):
    """GET /bucket?list-type=2&prefix=..., with the parameters that S3 has for it."""

    protocol_version = "HTTP/1.1"
    buckets: dict[str, list[str]]
    requests = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        count = str(self.requests).encode() if parts.path == "/requests" else None
        body = count or self._page(self.buckets[parts.path.strip("/")], query).encode()
        time.sleep(0 if count else LATENCY_SECONDS)
        self.send_response_only(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _page(self, keys: list[str], query: dict[str, str]) -> str:
        prefix, limit = query.get("prefix", ""), int(query.get("max-keys", 1_000))
        after = bytes.fromhex(query.get("continuation-token", "")).decode() or query.get("start-after", "")
        found = self._found(keys, prefix, query.get("delimiter"), after)
        page = list(islice(found, limit))
        more = next(found, None) is not None
        items = [
            f"<CommonPrefixes><Prefix>{quote(name)}</Prefix></CommonPrefixes>"
            if name.endswith("/")
            else _ITEM.format(quote(name))
            for name in page
        ]
        token = f"<NextContinuationToken>{page[-1].encode().hex()}</NextContinuationToken>" if more else ""
        return (
            f'<?xml version="1.0"?><ListBucketResult><KeyCount>{len(page)}</KeyCount><EncodingType>url</EncodingType>'
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join(items)}</ListBucketResult>"
        )

    def _found(self, keys: list[str], prefix: str, delimiter: str | None, after: str) -> Iterator[str]:
        place = bisect_right(keys, max(after, prefix))
        while place < len(keys) and (key := keys[place]).startswith(prefix):
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            if end >= 0:
                key = key[: end + 1]
                place = bisect_right(keys, key + "\U0010ffff")
            else:
                place += 1
            if key > after:
                yield key

    def log_message(self, *_: object) -> None:
        pass


def serve(count: int) -> None:
    _Handler.buckets = {name: [key(number) for number in range(count)] for name, key in LAYOUTS.items()}
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        print(server.server_address[1], flush=True)
        server.serve_forever()


def _by_the_product(bucket: str) -> int:
    from indexer.storage.address import Address
    from indexer.storage.s3.client import S3
    from indexer.storage.s3.listing import scan_objects

    return sum(1 for _ in scan_objects(S3(), Address(bucket, ""), wanted=lambda name: name.endswith(".mp4")))


def _by_boto3(bucket: str) -> int:
    import boto3

    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return sum(item["Key"].endswith(".mp4") for page in pages for item in page["Contents"])


CONTENDERS = {"indexer": _by_the_product, "boto3": _by_boto3}


def _measured(contender: str, bucket: str, count: int, port: int) -> dict[str, float]:
    """One contender in a process of its own; and the requests that the storage saw."""
    from urllib.request import urlopen

    def requests() -> int:
        with urlopen(f"http://127.0.0.1:{port}/requests") as answer:
            return int(answer.read())

    before = requests()
    command = [sys.executable, "-m", __spec__.name, contender, bucket]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found, wall, cpu = done.stdout.split()
    assert int(found) == count, found
    return {"seconds": float(wall), "cpu_seconds": float(cpu), "requests": requests() - before - 1}


def main(count: int = OBJECTS) -> dict[str, Any]:
    server = subprocess.Popen([sys.executable, "-m", __spec__.name, "serve", str(count)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        with mock.patch.dict(os.environ, environment(f"http://127.0.0.1:{port}")):
            figures: dict[str, Any] = {
                bucket: {contender: _measured(contender, bucket, count, port) for contender in CONTENDERS}
                for bucket in LAYOUTS
            }
    finally:
        server.terminate()
        server.wait()
    for each in figures.values():
        each["ratio"] = round(each["indexer"]["seconds"] / each["boto3"]["seconds"], 2)
    return {"objects": count, "latency_seconds": LATENCY_SECONDS} | figures


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        began = time.perf_counter()
        found = CONTENDERS[sys.argv[1]](sys.argv[2])
        print(found, round(time.perf_counter() - began, 1), round(time.process_time(), 1))
