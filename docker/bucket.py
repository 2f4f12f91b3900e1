"""Make the bucket of compose.yaml if it is not there, and put the files of a folder into it, below videos/.

usage: bucket.py [FOLDER]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import boto3.session
from botocore.config import Config


def main(folder: Path) -> None:
    """An empty or missing folder puts nothing there. The S3 server may still be starting: it is asked for half a minute."""
    settings = Config(retries={"total_max_attempts": 10, "mode": "standard"}, connect_timeout=5)
    client = boto3.session.Session().client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], config=settings)
    bucket = os.environ["BUCKET"]
    if bucket not in {each["Name"] for each in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=bucket)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        client.upload_file(str(path), bucket, f"videos/{path.relative_to(folder).as_posix()}")
    client.close()
    print(f"{len(files)} files put into s3://{bucket}/videos", flush=True)


if __name__ == "__main__":
    main(Path(*sys.argv[1:2] or ["/videos"]))
