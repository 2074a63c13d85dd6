"""Errors in words of our own, the same in every run: what libraries say may hold addresses, and change with them."""

import errno
import json
import os
from typing import Any

from segmentation.errors import SegmentationError

_WORDS = {
    errno.ENOENT: "the file or folder is gone, or was never there",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is too large for its disk, or for a limit of this machine",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the device cannot read or write it",
    errno.EISDIR: "a folder, where a file is expected",
    errno.ENOTDIR: "a file, where a folder is expected",
    errno.ENAMETOOLONG: "its name is too long for the file system",
    errno.ELOOP: "links that lead in a circle",
    errno.EMFILE: "too many files are open",
    errno.ENFILE: "too many files are open",
    errno.ESTALE: "the network drive has lost it",
    errno.ETIMEDOUT: "no answer in time",
    errno.ECONNREFUSED: "the connection is refused",
    errno.ECONNRESET: "the connection broke off",
    errno.ECONNABORTED: "the connection broke off",
    errno.EPIPE: "the connection broke off",
    errno.EHOSTUNREACH: "the network does not lead there",
    errno.ENETUNREACH: "the network does not lead there",
    errno.EADDRINUSE: "the address is in use",
    errno.ENOMEM: "no memory left",
}
#: Errors of files that libraries raise without a number.
_NUMBERS: dict[type[OSError], int] = {
    FileNotFoundError: errno.ENOENT,
    PermissionError: errno.EACCES,
    IsADirectoryError: errno.EISDIR,
    NotADirectoryError: errno.ENOTDIR,
    TimeoutError: errno.ETIMEDOUT,
    ConnectionRefusedError: errno.ECONNREFUSED,
    ConnectionError: errno.ECONNRESET,
}
#: Errors of clients of buckets, by name: whoever reads files alone has none of them installed.
_REMOTE = {
    "NoCredentialsError": "no credentials for the bucket",
    "PartialCredentialsError": "no credentials for the bucket",
    "ConnectTimeoutError": "no answer in time",
    "ReadTimeoutError": "no answer in time",
    "HTTPClientError": "the server cannot be reached",
    "ConnectionError": "the server cannot be reached",
    "ClientConnectionError": "the server cannot be reached",
    "ClientPayloadError": "the connection broke off",
}
_REMOTE_PACKAGES = ("botocore", "aiobotocore", "aiohttp", "urllib3")


def reason_of(error: BaseException) -> str:
    """Say an error in our own words; of one that nobody foresaw, only its kind: the log has the rest.

    Examples
    --------
    >>> reason_of(OSError(28, "No space left on device"))
    'no space left on the device'
    >>> reason_of(AttributeError("'NoneType' object has no attribute 'size'"))
    "an error that nobody foresaw (AttributeError); the run's log has more"
    """
    return known_reason(error) or f"an error that nobody foresaw ({type(error).__name__}); the run's log has more"


def known_reason(error: BaseException) -> str:
    """Say an error in our own words; "" for one that nobody foresaw."""
    if isinstance(error, SegmentationError):
        return str(error)
    if isinstance(error, json.JSONDecodeError):
        return f"no JSON: line {error.lineno}, column {error.colno} makes no sense"
    if isinstance(error, UnicodeDecodeError):
        return f"no text in {error.encoding}: its byte {error.start:,} is none"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, MemoryError):
        return _WORDS[errno.ENOMEM]
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"the package {error.name} is not installed"
    return _of_files(error) or _of_buckets(error)


def message_of(error: BaseException) -> str:
    """Say an error with the place that it is about, if it names one.

    Examples
    --------
    >>> message_of(FileNotFoundError(2, "No such file or directory", "/data/a.png"))
    '/data/a.png: the file or folder is gone, or was never there'
    """
    place = getattr(error, "filename", None) if isinstance(error, OSError) else None
    if isinstance(error, SegmentationError) or not isinstance(place, str | bytes | os.PathLike):
        return reason_of(error)
    # What is staged has a name of its own in every run.
    return f"{os.fsdecode(place).partition('/.staging')[0]}: {reason_of(error)}"


def _of_files(error: BaseException) -> str:
    if not isinstance(error, OSError):
        return ""
    number = error.errno or next((number for kind, number in _NUMBERS.items() if isinstance(error, kind)), None)
    if number is None:
        return ""
    return _WORDS.get(number) or os.strerror(number).lower()


def _of_buckets(error: BaseException) -> str:
    kinds = type(error).__mro__
    if not any(kind.__module__.partition(".")[0] in _REMOTE_PACKAGES for kind in kinds):
        return ""
    answer: Any = getattr(error, "response", None)
    code = str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, dict) else ""
    if code.isascii() and code.isalnum():
        return f"the server refuses ({code})"
    return next((words for kind in kinds for name, words in _REMOTE.items() if kind.__name__ == name), "")
