"""An object store that speaks S3 on the loopback interface (moto), with faults, and a count of what it is asked."""

import logging
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

BUCKET = "corpus"
SLOW_DOWN = Response("<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>", 503)
UNAVAILABLE = Response("<Error><Code>InternalError</Code><Message>We are away.</Message></Error>", 500)


class ObjectStore:
    """`fault` may answer in the store's place: it is given the method and the path of each request."""

    def __init__(self) -> None:
        self.fault: Callable[[str, str], Response | None] = lambda method, path: None
        self.asked: Counter[str] = Counter()
        self.faults = 0
        self._store = DomainDispatcherApplication(create_backend_app)
        self._one_at_a_time = threading.Lock()  # moto lists and deletes without one, and creates only what is not there
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "ObjectStore":
        self._thread.start()
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        urllib.request.urlopen(f"{self.environment['AWS_ENDPOINT_URL']}/moto-api/reset", b"")
        self._client().create_bucket(Bucket=BUCKET)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find this store, and no other."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def tree(self, folder: str) -> dict[str, bytes]:
        """All objects under a prefix."""
        client = self._client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{folder}/")
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        found = {}
        for key in keys:
            with suppress(client.exceptions.NoSuchKey):  # deleted a moment ago
                found[key[len(folder) + 1 :]] = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return found

    def put(self, key: str, data: bytes) -> None:
        self._client().put_object(Bucket=BUCKET, Key=key, Body=data)

    def _client(self) -> Any:
        given = self.environment
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        return boto3.client("s3", endpoint_url=given["AWS_ENDPOINT_URL"], **keys)

    def _answer(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        request = Request(environ)
        listing = request.method == "GET" and "list-type" in request.args
        self.asked["LIST" if listing else request.method] += 1
        agent = request.headers.get("User-Agent", "")
        fault = self.fault(request.method, request.path) if "Boto3" not in agent else None
        if fault is not None:
            self.faults += 1
            request.get_data()
            return fault(environ, start)
        with self._one_at_a_time:
            return list(self._store(environ, start))
