"""The S3 store itself, through s3fs, and what its refusals mean.  The one file that knows s3fs and botocore."""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable
from typing import Any

from search_spaces.errors import DataError, UnsupportedError, UserError

_CREDENTIALS = "AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws/credentials, or the role of the machine"
# what botocore calls a user's own mistakes in settings
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "CredentialRetrievalError", "NoAuthTokenError"}
# what S3 calls credentials that have run out, and a bucket that is asked in the wrong place
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidToken", "TokenRefreshRequired"}
_ELSEWHERE = {"301", "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_UNREACHABLE = {"EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError", "ProxyConnectionError"}


@functools.cache
def store() -> Any:
    """The store of this process; UnsupportedError without s3fs.  Nothing is asked of it yet."""
    try:
        from s3fs import S3FileSystem
    except ImportError as error:
        raise UnsupportedError("s3:// needs the package s3fs", hint="pip install -e '.[s3]' in the folder of this program") from error
    return S3FileSystem(use_listings_cache=False, skip_instance_cache=True)


def counting(count: Callable[[int], None]) -> Any:
    """What s3fs takes as `callback` to tell `count` how many bytes of a file have passed."""
    from fsspec.callbacks import Callback

    class Counting(Callback):  # type: ignore[misc]
        def relative_update(self, inc: int = 1) -> None:
            count(inc)

    return Counting()


def refusal(error: Exception, url: str) -> Exception:
    """What to raise for a refusal of the store: DataError for what a user can put right, ConnectionError when it cannot be reached.

    An error of our own side (the local disk, a package that is missing) comes back as it is.
    """
    if isinstance(error, UserError):
        return error
    kind, text = type(error).__name__, _line(error)
    if kind in _UNREACHABLE or isinstance(error, ConnectionError | TimeoutError):
        return ConnectionError(errno.EHOSTUNREACH, f"the S3 store cannot be reached ({text})", url)
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}:
        return error
    mistake = _by_code(code_of(error), text, url) or _by_kind(error, kind, text, url)
    return mistake or ConnectionError(errno.EIO, f"the S3 store failed ({kind}: {text})", url)


def no_bucket(bucket: str) -> DataError:
    """What to raise for a bucket that is not there."""
    return DataError(f"there is no bucket {bucket}", hint="check its name, and AWS_ENDPOINT_URL where it is not one of AWS")


def code_of(error: BaseException) -> str:
    """What S3 calls a refusal, `NoSuchBucket` for instance; its status for a refusal without words, empty for another error."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _by_code(code: str, text: str, url: str) -> DataError | None:
    """The user's mistake that S3 has a name for, if any."""
    if code == "NoSuchBucket":
        return no_bucket(url.removeprefix("s3://").partition("/")[0])
    if code in _EXPIRED:
        return DataError(f"the credentials for {url} are no longer valid: {text}", hint=f"renew them: {_CREDENTIALS}")
    if code in _ELSEWHERE:
        return DataError(f"{url} is in another region: {text}", hint="set AWS_DEFAULT_REGION to that of the bucket")
    if code == "400":  # to a question that has no body S3 gives no reason
        hint = "S3 says so of credentials that have run out and of a wrong region: renew them, or set AWS_DEFAULT_REGION"
        return DataError(f"the S3 store refuses {url}: {text}", hint=hint)
    return None


def _by_kind(error: Exception, kind: str, text: str, url: str) -> DataError | None:
    """The user's mistake that an error stands for, if any."""
    if isinstance(error, FileNotFoundError):
        return DataError(f"{url} does not exist", hint="check bucket and key; keys are compared letter by letter")
    if isinstance(error, PermissionError):
        return DataError(
            f"no access to {url}: {text}",
            hint=f"these credentials may not do this (S3 says the same of a missing key where listing is forbidden): {_CREDENTIALS}",
        )
    if kind in _NO_CREDENTIALS:
        return DataError(f"no credentials for {url}: {text}", hint=f"set {_CREDENTIALS}")
    if kind == "ValueError" and "endpoint" in text:
        return DataError(f"AWS_ENDPOINT_URL is no address: {text}", hint="write http://HOST:PORT or https://HOST, or unset it for AWS")
    if kind == "ParamValidationError" or "Invalid bucket" in text:
        return DataError(f"{url} is no name that S3 takes: {text}", hint="write s3://bucket/folder/name")
    return None


def _line(error: Exception) -> str:
    """The first line of what the store said."""
    text = str(error.args[-1] if isinstance(error, OSError) and error.args else error).strip()
    return text.splitlines()[0] if text else type(error).__name__
