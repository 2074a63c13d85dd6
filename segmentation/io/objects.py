"""A store in a bucket: objects under a prefix, by S3's own protocol, which many servers speak.

There is no rename. A file is one object, put whole. A folder of a Zarr group is replaced in an order that no reader
can take for finished: its root metadata is deleted first and put last.
"""

import errno
import mimetypes
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import IO, Any
from urllib.parse import urlsplit

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from segmentation.errors import ParameterError, StoreError
from segmentation.io.lease import Lease
from segmentation.io.storage import Storage
from segmentation.planning import display

#: Seconds until a server that does not answer is asked again; REGIONFLOW_S3_TIMEOUT_S sets another number.
_READ_TIMEOUT_S = 20.0
_CONNECT_TIMEOUT_S = 5.0
#: With waits between them a persistent fault ends within three minutes; AWS_MAX_ATTEMPTS sets another number.
_ATTEMPTS = 5
_PUTS_AT_ONCE = 4
_METADATA = "zarr.json"
_TYPES = {".json": "application/json", ".js": "text/javascript", ".html": "text/html; charset=utf-8"}
_DENIED = {"403", "AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
_MISSING = {"404", "NoSuchKey", "NotFound"}


class ObjectStorage(Storage):
    """Objects below ``s3://bucket/prefix``; endpoint, region and credentials as the AWS tools find them."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket = bucket
        self.prefix = prefix.strip("/")
        self.url = f"s3://{bucket}/{self.prefix}".rstrip("/")

    def call(self, operation: str, name: str | None = None, **arguments: Any) -> dict[str, Any]:
        """Ask the server; what it or the way to it refuses becomes an error of this project.

        Raises
        ------
        FileNotFoundError
            There is no such object.
        StoreError
            Everything else, after bounded retries.
        """
        if name is not None:
            arguments["Key"] = self._key(name)
        with self._translated(name):
            answer: dict[str, Any] = getattr(_client(os.getpid()), operation)(Bucket=self.bucket, **arguments)
        return answer

    def read(self, name: str) -> bytes:  # noqa: D102 - said by Storage
        answer = self.call("get_object", name)
        with self._translated(name):
            data: bytes = answer["Body"].read()
        return data

    def exists(self, name: str) -> bool:  # noqa: D102
        try:
            self.call("head_object", name)
        except FileNotFoundError:
            return False
        return True

    def files(self, folder: str = "") -> Iterator[str]:  # noqa: D102
        for page in self._pages(folder):
            for entry in page.get("Contents", []):
                yield entry["Key"][len(self._key("")) :]

    def folders(self, folder: str = "") -> list[str]:  # noqa: D102
        found = []
        for page in self._pages(folder, Delimiter="/"):
            found += [entry["Prefix"].rstrip("/").rpartition("/")[2] for entry in page.get("CommonPrefixes", [])]
        return sorted(found)

    def write(self, name: str, data: bytes) -> None:  # noqa: D102
        self.call("put_object", name, Body=data, ContentType=content_type(name))

    def upload(self, name: str, file: IO[bytes]) -> None:  # noqa: D102
        self.call("put_object", name, Body=file, ContentType=content_type(name))

    def put_folder(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Replace a folder: its old root metadata goes first, then come chunks, inner metadata, root metadata.

        What is there already, byte for byte, is left alone: a batch that is computed again after its commit must not
        take away for a moment what its record promises.
        """
        there = {name[len(folder) + 1 :] for name in self.files(folder)}
        if there == files.keys() and all(self.read(f"{folder}/{name}") == data for name, data in files.items()):
            return
        if _METADATA in there:
            self.delete(f"{folder}/{_METADATA}")
        for name in sorted(there - files.keys() - {_METADATA}):
            self.delete(f"{folder}/{name}")
        chunks = [name for name in files if not name.endswith(_METADATA)]
        inner = [name for name in files if name.endswith(f"/{_METADATA}")]
        for names in (chunks, inner, [_METADATA] if _METADATA in files else []):
            with ThreadPoolExecutor(_PUTS_AT_ONCE) as pool:
                list(pool.map(lambda name: self.write(f"{folder}/{name}", files[name]), sorted(names)))

    def delete(self, name: str) -> None:  # noqa: D102
        self.call("delete_object", name)

    def sync(self, folder: str | None = None) -> None:
        """Nothing to do: an object is durable when its put is answered."""

    def sweep(self) -> None:
        """Nothing to do: an object appears whole, nothing is staged."""

    def lock(self) -> AbstractContextManager[str]:  # noqa: D102
        return Lease(self).held()

    def confirm_lock(self, token: str) -> None:  # noqa: D102
        Lease(self).confirm(token)

    def check(self) -> None:  # noqa: D102
        try:
            self.call("list_objects_v2", Prefix=self._key(""), MaxKeys=1)
        except StoreError as error:
            raise ParameterError(f"OUTPUT: {error}") from error

    def below(self, folder: str) -> "ObjectStorage":  # noqa: D102
        return ObjectStorage(self.bucket, f"{self.prefix}/{folder}")

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def _pages(self, folder: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        arguments["Prefix"] = self._key(f"{folder}/" if folder else "")
        while True:
            page = self.call("list_objects_v2", **arguments)
            yield page
            if not page.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = page["NextContinuationToken"]

    @contextmanager
    def _translated(self, name: str | None) -> Iterator[None]:
        place = f"{self.url}/{name}" if name else self.url
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _MISSING:
                raise FileNotFoundError(errno.ENOENT, "there is no such object", place) from error
            raise ObjectError(f"{place}: {_explain(code, self.bucket)}", code) from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise ObjectError(
                f"{place}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            ) from error
        except (BotoCoreError, OSError) as error:
            raise ObjectError(f"{place}: the server{_endpoint(error)} cannot be reached or does not answer") from error


class ObjectError(StoreError):
    """The server refused or did not answer; `code` is what it said, "" if nothing."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


def content_type(name: str) -> str:
    """Say what an object is, for browsers that open the gallery from the bucket.

    Examples
    --------
    >>> content_type("contours/ab/x.png"), content_type("0/c/0/0")
    ('image/png', 'application/octet-stream')
    """
    suffix = os.path.splitext(name)[1]  # noqa: PTH122 - the name of an object, no path
    return _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"


def _explain(code: str, bucket: str) -> str:
    if code == "NoSuchBucket":
        return f"the bucket {bucket} does not exist; an existing one is expected"
    if code in _DENIED:
        return f"access denied ({code}); the credentials must allow to list, read, write and delete there"
    return f"the server refuses ({display(code)[:40] or 'it does not say why'})"


def _endpoint(error: Exception) -> str:
    """Name the server that an error is about, if it says which; what was asked of it is no part of that."""
    url = urlsplit(str(getattr(error, "kwargs", {}).get("endpoint_url", "")))
    return f" {url.scheme}://{url.netloc}" if url.netloc else ""


@lru_cache(maxsize=1)
def _client(process: int) -> Any:
    """Connect, once a process: connections do not survive a fork, `process` tells it."""
    timeout = float(os.environ.get("REGIONFLOW_S3_TIMEOUT_S", _READ_TIMEOUT_S))
    attempts = int(os.environ.get("AWS_MAX_ATTEMPTS", _ATTEMPTS))
    config = Config(
        connect_timeout=min(timeout, _CONNECT_TIMEOUT_S),
        read_timeout=timeout,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=2 * _PUTS_AT_ONCE,
    )
    session = botocore.session.get_session()
    return session.create_client("s3", config=config, region_name=session.get_config_variable("region") or "us-east-1")
