"""An archive in a bucket, written, merged, damaged and forgotten in; a line of JSON says what was found on the way.

What is in the bucket is asked of the server by another client than fsspec's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq

from feedback.archive import Archive
from feedback.errors import InvalidRecord
from feedback.memory import MemoryRegistry
from feedback.turns import leased
from tests.unit.feedback.test_archive import entries, ids

BUCKET, FOLDER = "heed", "one/archive"
URL = f"s3://{BUCKET}/{FOLDER}"
client: Any = boto3.client("s3")


def objects() -> dict[str, bytes]:
    """What lies in the bucket."""
    listed = client.list_objects_v2(Bucket=BUCKET).get("Contents", [])
    return {one["Key"]: client.get_object(Bucket=BUCKET, Key=one["Key"])["Body"].read() for one in listed}


def subjects() -> set[str]:
    """Whose events lie in the bucket, whatever manifests say."""
    files = [data for name, data in objects().items() if name.endswith(".parquet")]
    return {
        one for data in files for one in pq.read_table(pa.BufferReader(data)).column("subject").to_pylist()
    }


def steps() -> Iterator[tuple[str, Any]]:
    """What is done, and what it came to."""
    turns = leased(MemoryRegistry(), "w")
    archive, reader = Archive(URL, turns), Archive(URL)
    yield "empty", ids(reader)
    for n in range(4):
        archive.write([*entries(10 * n, 10 * n + 2), *entries(10 * n + 2, 10 * n + 3, "s-gone")])
        yield f"read after write {n}", len(ids(reader))  # by who has listed before
    yield "names", sorted(name.rpartition("/")[0] for name in objects())
    yield "merged", archive.compact(small=20, most=6)
    yield "segments", [segment.events for segment in reader.segments()]
    yield "before", sorted(subjects())
    yield "forgotten", archive.forget("s-gone")
    yield "after", sorted(subjects())
    yield "left", ids(reader)
    client.put_object(Bucket=BUCKET, Key=f"{FOLDER}/torn_1_1.parquet", Body=b"half")  # its writer was killed
    yield "beside a torn file", len(ids(Archive(URL)))
    archive.compact()
    yield "torn", [name for name in objects() if "torn" in name]
    (name,) = [name for name in objects() if name.endswith(".parquet")]
    client.put_object(Bucket=BUCKET, Key=name, Body=objects()[name][:-1] + b"x")
    try:
        ids(Archive(URL))
    except InvalidRecord as error:
        yield "damaged", str(error)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dict(steps())) + "\n")
