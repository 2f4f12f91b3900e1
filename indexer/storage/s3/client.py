"""The connection to S3: one per process, who we are, how long we are patient, and what its answers mean.

Endpoint, region, profile and credentials come from the AWS chain, as for every other AWS tool: AWS_ENDPOINT_URL_S3,
AWS_REGION, AWS_PROFILE, ~/.aws, the role of the machine. AWS_REQUEST_PAYER=requester pays for reading the buckets of others.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Literal

import boto3.session
import botocore.session
import urllib3.exceptions
from botocore import exceptions
from botocore.config import Config
from botocore.parsers import ResponseParserError
from botocore.utils import parse_timestamp

from indexer.errors import ConfigError, CredentialsError
from indexer.storage.address import Address

Kind = Literal["gone", "no_bucket", "changed", "exists", "denied", "archived", "unsupported", "refused", "unavailable"]

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("404", "NoSuchKey", "NotFound"), "gone"),
    **dict.fromkeys(("NoSuchBucket", "InvalidBucketName"), "no_bucket"),
    **dict.fromkeys(("412", "PreconditionFailed", "416", "InvalidRange"), "changed"),
    **dict.fromkeys(("403", "AccessDenied", "AllAccessDisabled", "AccountProblem", "KMS.DisabledException"), "denied"),
    **dict.fromkeys(("501", "NotImplemented"), "unsupported"),
    **{"InvalidObjectState": "archived", "ConditionalRequestConflict": "exists"},
    **dict.fromkeys(("RequestTimeout", "SlowDown", "TooManyRequests", "Throttling", "ThrottlingException"), "unavailable"),
    **dict.fromkeys(("BadDigest", "IncompleteBody", "XAmzContentChecksumMismatch"), "unavailable"),  # damage on the way
}
"""Error code of S3 -> what it means here. Of the others, a 5xx is a fault that may pass, anything else is final."""

_NOT_ACCEPTED = {
    *("ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidToken", "TokenRefreshRequired"),
    *("SignatureDoesNotMatch", "RequestTimeTooSkewed", "InvalidClientTokenId", "NotSignedUp"),
}
_NO_CREDENTIALS = (
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.CredentialRetrievalError,
    exceptions.TokenRetrievalError,
    exceptions.NoAuthTokenError,
    exceptions.ProfileNotFound,
    exceptions.SSOError,
    exceptions.LoginError,
)
_UNREACHABLE = (
    exceptions.ConnectionError,
    exceptions.HTTPClientError,
    exceptions.IncompleteReadError,
    exceptions.FlexibleChecksumError,
    ResponseParserError,
    urllib3.exceptions.HTTPError,
)

_PAYER = "x-amz-request-payer"

PARALLEL_REQUESTS = 32
"""Connections that one process keeps."""


@dataclass(frozen=True, slots=True)
class Patience:
    """When to stop hoping."""

    give_up_seconds: float = 60.0
    """Nothing came for this long, however often it was asked for."""
    first_contact_seconds: float = 10.0
    """An endpoint that never gave any answer is probably misspelt."""
    window_seconds: float = 10.0
    least_bytes_per_second: int = 32_768
    """A body that is slower than this for a whole window is dropped, and the rest asked for again: mostly, it was this one
    connection. What arrived is kept, so a network that really is this slow loses next to nothing."""
    longest_pause_seconds: float = 5.0


class S3Fault(Exception):
    """S3 did not do what was asked. `kind` is the meaning, `str(fault)` what S3 said."""

    def __init__(self, kind: Kind, said: str) -> None:
        super().__init__(said)
        self.kind = kind


class S3:
    """Requests to one S3 endpoint, safe to use from many threads. Tests make their own; the program uses `connection`."""

    def __init__(self, *, patience: Patience = Patience()) -> None:
        self.patience = patience
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 1},  # `ask` tries again, and hears when it is cancelled
            connect_timeout=10,
            read_timeout=20,
            max_pool_connections=PARALLEL_REQUESTS,
            tcp_keepalive=True,
            user_agent_extra="indexer",
            signature_version="s3v4",  # as for all requests; links would have an older one, which encrypted objects refuse
        )
        try:
            core = botocore.session.Session()
            core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)
            # Other AWS tools read AWS_REGION; boto3 alone wants AWS_DEFAULT_REGION.
            session = boto3.session.Session(botocore_session=core, region_name=os.environ.get("AWS_REGION"))
            client = session.client("s3", config=config)
            if client.meta.endpoint_url == f"https://s3.{client.meta.region_name}.amazonaws.com":
                # Else boto3 makes links to another address than the one where it asks, whose region is not the signed one.
                client = session.client("s3", config=config.merge(Config(s3={"addressing_style": "virtual"})))
        except _NO_CREDENTIALS as error:
            raise _no_credentials(error) from error
        except (ValueError, exceptions.BotoCoreError) as error:
            raise ConfigError(f"S3 cannot be used: {error}. Correct AWS_ENDPOINT_URL_S3 or ~/.aws/config.") from error
        self._client = client
        client.meta.events.register("before-sign.s3", _payer_in_link)
        payer = os.environ.get("AWS_REQUEST_PAYER")
        self._payer = {"RequestPayer": payer} if payer else {}
        self._answered = False

    def ask(self, operation: str, address: object, *, cancelled: threading.Event | None = None, **arguments: Any) -> Any:
        """One request, by its name in boto3, asked again while S3 is unavailable, until patience ends.

        Raises S3Fault, or CredentialsError if S3 does not accept who we are. `address` is for the messages.
        """
        waiting = Waiting(self.patience, cancelled)
        while True:
            try:
                if "Body" in arguments:
                    arguments["Body"].seek(0)  # the try before this one has read it
                with explained(address):
                    answer = getattr(self._client, operation)(**arguments, **self._payer)
                self._answered = True
                return answer
            except S3Fault as fault:
                self._answered |= isinstance(fault.__cause__, exceptions.ClientError)
                if fault.kind != "unavailable":
                    raise
                waiting.after(fault, None if self._answered else self.patience.first_contact_seconds)

    def signed(self, address: Address, seconds: int, media_type: str) -> str:
        """A link to an object for this long, or while our credentials last. Asks nobody. Raises CredentialsError."""
        named = {"Bucket": address.bucket, "Key": address.key, "ResponseContentType": media_type}
        with explained(address):
            return str(self._client.generate_presigned_url("get_object", Params=named | self._payer, ExpiresIn=seconds))


class Waiting:
    """The pauses between tries at one thing. They grow until there is progress."""

    def __init__(self, patience: Patience, cancelled: threading.Event | None = None) -> None:
        self._patience = patience
        self._cancelled = cancelled or threading.Event()
        self.progress()

    def progress(self) -> None:
        self._since = time.monotonic()
        self._tries = 0

    def after(self, fault: S3Fault, give_up_seconds: float | None = None) -> None:
        """Wait a little. Raises `fault` when there was no progress for too long, or nobody waits any more."""
        limit = self._patience.give_up_seconds if give_up_seconds is None else give_up_seconds
        self._tries += 1
        pause = random.uniform(0, min(0.1 * 2**self._tries, self._patience.longest_pause_seconds))
        if time.monotonic() + pause - self._since > limit or self._cancelled.wait(pause):
            raise fault


def connection() -> S3:
    """The connection of this process."""
    return _connection_of(os.getpid())


@cache
def _connection_of(process: int) -> S3:
    """A connection must not be shared with a forked process."""
    return S3()


@contextmanager
def explained(address: object) -> Iterator[None]:
    """What boto3 and the network raise, as S3Fault or CredentialsError."""
    try:
        yield
    except _NO_CREDENTIALS as error:
        raise _no_credentials(error) from error
    except exceptions.ClientError as error:
        raise _explain(error, address) from error
    except _UNREACHABLE as error:
        raise S3Fault("unavailable", _one_line(error)) from error
    except exceptions.BotoCoreError as error:
        raise S3Fault("refused", _one_line(error)) from error


def _explain(error: exceptions.ClientError, address: object) -> S3Fault | CredentialsError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    said = str(error.response.get("Error", {}).get("Message") or code)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _NOT_ACCEPTED:
        return CredentialsError(
            f"{address}: S3 does not accept the credentials: {said.rstrip('.')} ({code}). Renew them (`aws sts"
            " get-caller-identity` shows whose they are), and run the same command again: finished videos are kept."
        )
    kind = _KINDS.get(code, "unavailable" if status >= 500 else "refused")
    return S3Fault(kind, f"{said.rstrip('.')} ({code})" if code != said else said)


def _no_credentials(error: Exception) -> CredentialsError:
    return CredentialsError(
        f"No AWS credentials: {_one_line(error)}. Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give"
        " this machine a role."
    )


def _payer_in_link(request: Any, signature_version: str, **_: object) -> None:
    """Who pays must be in the link itself: whoever follows it sends no header that we signed."""
    if signature_version.endswith("-query") and (payer := request.headers.get(_PAYER)):
        del request.headers[_PAYER]
        request.params[_PAYER] = payer


def _timestamp(value: Any) -> datetime:
    """A page of a list has a thousand times, and botocore's own reader takes two thirds of the time to read the page."""
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return parse_timestamp(value)  # type: ignore[no-any-return]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
