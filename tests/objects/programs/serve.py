"""A server that speaks S3, on the port it is told, with a bucket ``heed``; until it is killed."""

from __future__ import annotations

import sys
import time

import boto3
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=int(sys.argv[1]), verbose=False)
server.start()
boto3.client("s3").create_bucket(Bucket="heed")
sys.stdout.write("ready\n")
sys.stdout.flush()
while True:
    time.sleep(3600)
