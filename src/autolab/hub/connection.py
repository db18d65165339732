"""The Hub's own client with what it lacks: time limits, bounded waits, and one line for every problem.

The client has no time limit by default, waits as long as a rate limit says, and asks who you are before
every call about jobs. Here every request has a limit, a command has a deadline, and the answer of `whoami` is
kept. Where the Hub is comes from HF_ENDPOINT, the token from `hf auth login` or HF_TOKEN.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import math
import os
import re
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autolab.errors import LabError
from autolab.hub.leaks import redact
from autolab.hub.untrusted import one_line
from autolab.ledger.views import replacing

if TYPE_CHECKING:
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

ANSWER_SECONDS = 90.0  # in which a command has its answer, or says why not
READ_SECONDS, CONNECT_SECONDS = 30.0, 10.0
LIMIT = "AUTOLAB_HUB_SECONDS"  # another limit for one request, such as 120 behind a slow proxy
BUSY = (408, 429, 500, 502, 503, 504)
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENOENT)  # waiting mends none of them
_QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_EXPERIMENTAL_WARNING": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "HF_HUB_VERBOSITY": "error",
    # Transfers of file contents have a client of their own, which would wait for minutes.
    "HF_XET_CLIENT_RETRY_BASE_DELAY": "500ms",
    "HF_XET_CLIENT_RETRY_MAX_DURATION": "30s",
}


# When the answer of the command under way must be there (monotonic seconds). Of the context and not of the client,
# which all of a process shares: a campaign's calls have no end, those of a command beside it have.
_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


class Unavailable(LabError):
    """The Hub cannot be reached, or asks for a longer wait than a command may take."""


class Denied(LabError):
    """The account may not do that, or not any more: no token, no rights, no credit. A person can mend it."""


class Missing(LabError):
    """There is no such repo, bucket, file or job, or the token may not see it."""


def connect(*, seconds: float = ANSWER_SECONDS) -> HfApi:
    """The client, for a command that may take so many seconds from now on; infinity for a campaign.

    Makes no request; a missing token is found by `need_token`. Raises LabError without huggingface_hub.
    """
    _deadline.set(time.monotonic() + seconds)
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)  # read when the client is imported
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise LabError("huggingface_hub is not installed", mend="pip install 'autolab[hub]'") from None
    _be_patient()
    return HfApi()


@functools.cache
def _be_patient() -> None:
    """Give the client our HTTP; once, for it closes what it had, and others may be using that."""
    import httpx2
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import hf_request_event_hook
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    client, certificates = _patient_client(), httpx2.create_ssl_context()
    set_client_factory(
        lambda: client(
            event_hooks={"request": [hf_request_event_hook]},
            follow_redirects=True,
            timeout=None,  # send() has the limits
            verify=certificates,
        )
    )


def _request_seconds() -> float:
    said = os.environ.get(LIMIT, "")
    try:
        return max(0.1, float(said)) if said else READ_SECONDS
    except ValueError:
        raise LabError(f"{said!r} is no number of seconds", where=LIMIT, mend="such as 60") from None


def need_token() -> None:
    """Raise LabError unless there is a token to call the Hub with."""
    from huggingface_hub import get_token

    token = get_token()
    if not token:
        raise no_token()
    if not token.isascii():
        raise Denied(
            "the Hugging Face token is no token", where="HF_TOKEN", mend="`hf auth login`, or set HF_TOKEN"
        )


def no_token() -> Denied:
    """The one line for a missing token."""
    return Denied("there is no Hugging Face token", mend="`hf auth login`, or set HF_TOKEN")


def namespace(api: HfApi, cache: Path, given: str | None = None) -> str:
    """Whose jobs and repos: what was given, else the account of the token, asked for once and kept in `cache`."""
    from huggingface_hub import get_token

    if given:
        return given
    need_token()
    key = hashlib.sha256(f"{api.endpoint} {get_token()}".encode()).hexdigest()[:16]
    path = cache / "accounts.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    if not isinstance(known.get(key), str):
        with explained("the account"):
            known = {key: str(api.whoami()["name"])}
        cache.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            json.dump(known, file)
    name: str = known[key]
    return name


@contextlib.contextmanager
def explained(subject: str) -> Iterator[None]:
    """Turn whatever the client raises into one line about `subject`, such as a repo or a job."""
    import httpx2
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
    )

    try:
        yield
    except HfHubHTTPError as error:
        raise _refused(error, subject) from None
    except LocalTokenNotFoundError:
        raise no_token() from None
    except HFValidationError:
        raise LabError(f"{subject!r} is not the name of a repo", mend="OWNER/NAME") from None
    except OfflineModeIsEnabled:
        raise Unavailable("the Hub is switched off", where="HF_HUB_OFFLINE", mend="unset it") from None
    except (httpx2.HTTPError, ConnectionError, TimeoutError) as error:
        raise unreachable(error) from None
    except (OSError, RuntimeError) as error:  # from the transfer of large files, or from the disk
        raise _failed_transfer(error, subject) from None


def _failed_transfer(error: OSError | RuntimeError, subject: str) -> LabError:
    """The one line for a transfer: its own errors pass as the network's do, those of this machine's disk do not."""
    from hf_xet import XetObjectNotFoundError  # type: ignore[import-untyped]

    said = redact(one_line(str(error), 200))
    if isinstance(error, XetObjectNotFoundError):
        return Missing(f"the content is not there: {said}", where=subject, mend="send it again")
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (named := re.search(r"\(os error (\d+)\)", str(error))):
        number = int(named[1])
    if number in _DISK:
        return LabError(f"the transfer failed: {said}", where=subject, mend="mend the disk, then try again")
    return Unavailable(f"the transfer failed: {said}", where=subject, mend="try again")


def unreachable(error: Exception) -> Unavailable:
    """The one line for a Hub that does not answer."""
    from huggingface_hub import constants

    return Unavailable(
        f"the Hub does not answer ({type(error).__name__})",
        where=str(constants.ENDPOINT),
        mend="check the network and HF_ENDPOINT, then try again",
    )


def status_of(error: HfHubHTTPError) -> int:
    """The HTTP status of an answer that was an error."""
    return int(error.response.status_code)


def _refused(error: HfHubHTTPError, subject: str) -> LabError:
    said = redact(one_line(str(error.server_message or ""), 200))
    status = status_of(error)
    known = {
        401: ("the Hub does not accept the token, or has no such thing for it",
              "`hf auth whoami`, then `hf auth login`"),
        402: ("the account has no credit left", "add credit in the account's billing settings"),
        403: ("no write access", "use a token that may write there and run jobs, or another name"),
        404: ("there is no such thing on the Hub, or the token may not see it", "check the name"),
        412: ("others keep changing it", "try again"),
        429: ("too many requests", f"try again in {_asked_wait(error.response) or 60:.0f} s"),
    }  # fmt: skip
    if status in known:
        what, mend = known[status]
        kinds: dict[int, type[LabError]] = {
            401: Denied,
            402: Denied,
            403: Denied,
            404: Missing,
            429: Unavailable,
        }
        return kinds.get(status, LabError)(what, where=subject, mend=mend)
    if status >= 500:
        return Unavailable(f"the Hub has a problem (HTTP {status})", where=subject, mend="try again later")
    return LabError(f"the Hub refused: {said or f'HTTP {status}'}", where=subject, mend="mend the request")


def _asked_wait(response: Any) -> float:
    """Seconds that the Hub asks to wait, from `RateLimit` or `Retry-After`; 0 if it does not say."""
    from huggingface_hub.utils._http import parse_ratelimit_headers

    limit = parse_ratelimit_headers(response.headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    after = str(response.headers.get("retry-after", "")).strip()
    return float(after) if after.isdigit() else 0.0


def _patient_client() -> Any:
    """The class of the HTTP client; made here because importing httpx2 takes long."""
    import httpx2

    class PatientClient(httpx2.Client):
        """Repeats what only reads, until the deadline; every request has a time limit."""

        def _wait(self, seconds: float) -> bool:
            """Wait, if the deadline leaves the time. What takes longer a campaign waits for where it can be stopped."""
            if seconds > ANSWER_SECONDS or time.monotonic() + seconds >= _deadline.get():
                return False
            time.sleep(seconds)
            return True

        def send(self, request: httpx2.Request, **settings: Any) -> httpx2.Response:
            limits = request.extensions.get("timeout") or {}
            seconds = _request_seconds()
            defaults = httpx2.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds)).as_dict()
            request.extensions["timeout"] = {
                name: default if limits.get(name) is None else limits[name]
                for name, default in defaults.items()
            }
            if time.monotonic() >= _deadline.get():
                raise unreachable(TimeoutError())
            pause = 0.5
            while True:
                try:
                    response = super().send(request, **settings)
                except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                    # Nobody is there; the client's own retries would take half a minute to say so.
                    if pause > 0.5 or not self._wait(pause):
                        raise unreachable(error) from None
                    pause *= 2
                    continue
                if request.method not in ("GET", "HEAD") or response.status_code not in BUSY:
                    return response
                asked = _asked_wait(response)
                if pause > 2 or not self._wait(asked or pause):
                    raise _gave_up(request, response, asked)
                response.close()
                pause *= 2

    return PatientClient


def _gave_up(request: httpx2.Request, response: httpx2.Response, asked: float) -> Unavailable:
    what = f"the Hub has a problem (HTTP {response.status_code})"
    mend = "try again later"
    if response.status_code == 429:
        what, mend = "too many requests", f"try again in {asked or 60:.0f} s"
    response.close()
    return Unavailable(what, where=f"{request.method} {request.url.path}", mend=mend)
