import errno
import json
import zlib

import pytest

from segmentation.errors import ImageError
from segmentation.reasons import known_reason, message_of, reason_of


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x"), "no space left on the device"),
        (PermissionError("Access Denied"), "permission denied"),
        (FileNotFoundError("bucket/key"), "the file or folder is gone, or was never there"),
        (TimeoutError(), "no answer in time"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "the connection broke off"),
        (OSError(errno.ENOTTY, "Inappropriate ioctl for device"), "inappropriate ioctl for device"),
        (ImageError("the image has no pixels (0×4)"), "the image has no pixels (0×4)"),
        (ModuleNotFoundError("No module named 'x'", name="x"), "the package x is not installed"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (zlib.error("Error -3 while decompressing"), "an error that nobody foresaw (error); the run's log has more"),
        (OSError("cannot identify <_io.BytesIO object at 0x7f0000000000>"), "an error that nobody foresaw (OSError);"),
    ],
)
def test_errors_are_said_in_our_own_words(error, reason):
    assert reason_of(error).startswith(reason)


def test_where_text_is_none_is_said():
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads('{\n"a": }')
    assert reason_of(caught.value) == "no JSON: line 2, column 6 makes no sense"
    with pytest.raises(UnicodeDecodeError) as undecoded:
        b"abc\xff".decode("utf-8")
    assert reason_of(undecoded.value) == "no text in utf-8: its byte 3 is none"


def test_what_is_staged_is_not_named_by_its_passing_name():
    error = OSError(errno.EROFS, "Read-only file system", "/out/.staging/0a1b2c/new")
    assert message_of(error) == "/out: the file system is read-only"


def test_what_a_bucket_answers_is_said_in_words():
    exceptions = pytest.importorskip("botocore.exceptions")
    endpoint = exceptions.EndpointConnectionError(endpoint_url="http://127.0.0.1:9/bucket?x=1")
    assert reason_of(endpoint) == "the server cannot be reached"
    assert reason_of(exceptions.NoCredentialsError()) == "no credentials for the bucket"
    refused = exceptions.ClientError({"Error": {"Code": "SlowDown", "Message": "Please"}}, "PutObject")
    assert reason_of(refused) == "the server refuses (SlowDown)"
    assert known_reason(exceptions.ClientError({"Error": {"Code": "<b>"}}, "PutObject")) == ""
