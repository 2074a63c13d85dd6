"""The lock of a store in a bucket: an object put under a condition, and renewed while its holder lives.

A holder that dies cannot take its lock with it, so it lapses when it has not been renewed for `LEASE_S`. How long
ago that was, the server alone says (its Date against the object's Last-Modified): clocks of machines differ. Every
change of the object is a conditional put, so of two that try only one succeeds, and a put whose answer was lost is
known by the random token in it.
"""

import json
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from segmentation.errors import StoreError
from segmentation.io.lock import StoreLockedError, describe_holder

if TYPE_CHECKING:
    from segmentation.io.objects import ObjectStorage

#: Seconds after which a lock that is not renewed is free; REGIONFLOW_S3_LEASE_S sets another number.
LEASE_S = 60.0
_NAME = ".lock"
_RENEWALS = 4  # in the time of a lease
_REFUSED = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}


class Lease:
    """One run's hold on a store."""

    def __init__(self, storage: "ObjectStorage") -> None:
        self.storage = storage
        self.token = uuid.uuid4().hex
        self.seconds = float(os.environ.get("REGIONFLOW_S3_LEASE_S", LEASE_S))
        self.etag = ""
        self.puts = 0
        self.ended = threading.Event()

    @contextmanager
    def held(self) -> Iterator[str]:
        """Hold the store for the block.

        Raises
        ------
        StoreLockedError
            Another run holds it; nothing was written.
        StoreError
            The server ignores conditions, so that no lock is possible.
        """
        self._acquire()
        renewing = threading.Thread(target=self._renew, name="regionflow-lease", daemon=True)
        renewing.start()
        try:
            yield self.token
        finally:
            self.ended.set()
            renewing.join()
            self._release()

    def confirm(self, token: str) -> None:
        """Raise StoreLockedError unless the lock is still the one with this token."""
        holder, _, _ = self._look()
        if holder.get("token") != token or holder.get("released"):
            raise StoreLockedError(
                f"{self.storage.url}: this run was not heard of for {self.seconds:g} s and lost the store to "
                f"{describe_holder(holder)}; run again when that has ended"
            )

    def _acquire(self) -> None:
        if not self._put(IfNoneMatch="*"):
            holder, etag, age = self._look()
            if not holder.get("released") and age <= float(holder.get("lease_s", self.seconds)):
                rest = float(holder.get("lease_s", self.seconds)) - age
                raise StoreLockedError(
                    f"{self.storage.url}: held by {describe_holder(holder)}; wait for it to end (if it was killed, "
                    f"its lock lapses in {rest:.0f} s)"
                )
            if not self._put(IfMatch=etag):
                raise StoreLockedError(f"{self.storage.url}: another run has just taken it; wait for it to end")
        if self._put(IfNoneMatch="*", is_probe=True):
            self._put(released=True)
            raise StoreError(
                f"{self.storage.url}: the server ignores conditions (If-None-Match), so two runs could write at once; "
                "one that knows conditional writes is expected"
            )

    def _put(self, *, is_probe: bool = False, released: bool = False, **condition: str) -> bool:
        """Put the lock under a condition; tell whether it is ours now."""
        from segmentation.io.objects import ObjectError

        self.puts += 1  # equal contents would have equal ETags, and a renewal would not be seen
        holder = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "token": self.token,
            "lease_s": self.seconds,
            "released": released,
            "puts": self.puts,
        }
        data = json.dumps(holder).encode()
        try:
            answer = self.storage.call("put_object", _NAME, Body=data, ContentType="application/json", **condition)
            self.etag = answer["ETag"]
        except ObjectError as error:
            if error.code not in _REFUSED:
                raise
            return not is_probe and self._is_ours()
        return True

    def _is_ours(self) -> bool:
        """Recognise a put that succeeded, but whose answer was lost: its repetition found our own lock."""
        holder, etag, _ = self._look()
        if holder.get("token") != self.token:
            return False
        self.etag = etag
        return True

    def _look(self) -> tuple[dict[str, Any], str, float]:
        """Return who holds the lock, its version, and its age by the server's clock, in seconds."""
        answer = self.storage.call("get_object", _NAME)
        try:
            holder = json.loads(answer["Body"].read())
        except ValueError:
            holder = {}
        date = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        modified: datetime = answer["LastModified"]
        return holder if isinstance(holder, dict) else {}, answer["ETag"], (date - modified).total_seconds()

    def _renew(self) -> None:
        """Renew until the end; a lock that was lost is left alone, and `confirm` finds it lost."""
        while not self.ended.wait(self.seconds / _RENEWALS):
            try:
                if not self._put(IfMatch=self.etag):
                    return
            except OSError:
                continue  # the server is away for now: the next renewal, or the run itself, finds out

    def _release(self) -> None:
        """Say that the lock is free. Nothing is deleted: a delete without a condition could hit the next holder's."""
        try:
            self._put(released=True, IfMatch=self.etag)
        except OSError:
            return  # it lapses
