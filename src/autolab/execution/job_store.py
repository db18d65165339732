"""What jobs read and write: one private bucket, in which everything but a job's own output is named by its content.

    runner/<hash>/*.py             the runner, as it was when the job was launched
    bundles/<hash>/bundle.tar      program, evaluator and spec of one measurement
    out/<ticket>/                  what one job left behind: measurement.json, log.txt, receipt.json
    measurements/<key>.json        results that need not be paid for again

Nothing that a job has mounted ever changes under it, and jobs of several labs do not meet.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import re
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autolab.errors import LabError
from autolab.execution.bundle import RUNNER_FILES, MeasurementResult, parse_result
from autolab.execution.bundle_folder import LOG, RESULT
from autolab.hub.connection import explained, need_token
from autolab.hub.untrusted import one_line
from autolab.ledger.records import NOT_REUSED, Measurement

if TYPE_CHECKING:
    from huggingface_hub import HfApi

BUNDLE, RECEIPT = "bundle.tar", "receipt.json"
REMOTE_FILES = ("remote.py", *RUNNER_FILES)
MOST_BYTES = 16 << 20  # of a file that a job or somebody else left in the bucket
_HERE = Path(__file__).resolve().parent
_NAME = re.compile(r"[A-Za-z0-9-]{1,80}")  # of a measurement


class NotYet(Exception):
    """A job's output is not all there; a mounted bucket may send it late."""


class Forged(Exception):
    """A job's output is not what its receipt says, or of another launch."""


@dataclass(frozen=True)
class Packed:
    """A bundle as one file; the same content gives the same bytes."""

    content: bytes
    sha256: str

    @property
    def folder(self) -> str:
        """Where it lies in the bucket."""
        return bundle_folder(self.sha256)


def bundle_folder(sha256: str) -> str:
    """Where a bundle lies in the bucket."""
    return f"bundles/{sha256[:32]}"


def pack(bundle: Path) -> Packed:
    """A bundle's folder as a tar file without times and owners."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(bundle.rglob("*")):
            member = tarfile.TarInfo(str(path.relative_to(bundle)))
            member.mode = 0o755 if path.is_dir() else 0o644
            if path.is_dir():
                member.type = tarfile.DIRTYPE
                tar.addfile(member)
                continue
            content = path.read_bytes()
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return Packed(buffer.getvalue(), hashlib.sha256(buffer.getvalue()).hexdigest())


@functools.cache
def runner_files() -> tuple[str, dict[str, bytes]]:
    """(folder in the bucket, the files): the runner of this version."""
    files = {name: (_HERE / name).read_bytes() for name in REMOTE_FILES}
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    return f"runner/{digest.hexdigest()[:32]}", files


def ensure_bucket(api: HfApi, bucket: str) -> None:
    """Make the bucket if there is none. Raises LabError without a token, without rights, or if it is public."""
    from huggingface_hub.errors import BucketNotFoundError

    need_token()
    with explained(f"bucket {bucket}"):
        try:  # to look is repeated by the client, to make is not
            private = api.bucket_info(bucket).private
        except BucketNotFoundError:
            api.create_bucket(bucket, private=True, exist_ok=True)
            private = api.bucket_info(bucket).private
    if not private:
        raise LabError("is public", where=f"bucket {bucket}", mend="make it private, or name another one")


def put_runner(api: HfApi, bucket: str) -> str:
    """Send the runner's files where they are missing; gives their folder."""
    folder, files = runner_files()
    _put_missing(api, bucket, {f"{folder}/{name}": content for name, content in files.items()})
    return folder


def put_bundle(api: HfApi, bucket: str, packed: Packed) -> None:
    """Send a bundle unless it is there."""
    _put_missing(api, bucket, {f"{packed.folder}/{BUNDLE}": packed.content})


def take_result(
    api: HfApi, bucket: str, ticket: str, bundle_sha256: str, measurement: str
) -> MeasurementResult:
    """What a job measured, if everything agrees: launch, bundle, the result's hash and the measurement's name.

    Raises NotYet while files are missing, Forged if they do not agree, LabError if the Hub does not answer.
    """
    found = _get(api, bucket, {name: f"out/{ticket}/{name}" for name in (RECEIPT, RESULT)})
    if len(found) < 2:
        raise NotYet
    return agreed_result(found[RECEIPT], found[RESULT], ticket, bundle_sha256, measurement)


def agreed_result(
    receipt: bytes, result: bytes, ticket: str, bundle_sha256: str, measurement: str
) -> MeasurementResult:
    """The result that a receipt speaks of. Raises Forged if launch, bundle, hash and name do not agree."""
    try:
        content = json.loads(receipt)
        said = (content["ticket"], content["bundle"], content["measurement"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Forged("the receipt cannot be read") from None
    if said[:2] != (ticket, bundle_sha256):
        raise Forged("the receipt is of another launch or another bundle")
    if said[2] != hashlib.sha256(result).hexdigest():
        raise Forged("the result's hash is not the one in the receipt")
    try:
        found = parse_result(result, RESULT)
    except LabError as problem:
        raise Forged(problem.what) from None
    if found.id != measurement:
        raise Forged(f"the result is of {found.id[:60]!r}")
    return found


def last_words(api: HfApi, bucket: str, ticket: str) -> str:
    """The last line of the log that a job left, for people; empty if it left none. Raises LabError, Forged."""
    log = _get(api, bucket, {LOG: f"out/{ticket}/{LOG}"}).get(LOG, b"").decode("utf-8", "replace")
    return one_line((log.strip().splitlines() or [""])[-1], 160)


# results that need not be paid for again ------------------------------------------------------------


def measurement_key(program: str, comparability_key: str, measurement: Measurement) -> str:
    """The name of what is measured: program, comparability key, stage and both seeds."""
    parts = [program, comparability_key, measurement.stage, measurement.seed, measurement.eval_seed]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]


def is_shareable(result: MeasurementResult) -> bool:
    """Whether others can rely on a result: it is of the program, and what is measured had no hand in the number."""
    judged = result.sandbox == "bubblewrap" and result.evidence == "measured"
    return judged and result.status not in NOT_REUSED


def share_result(api: HfApi, bucket: str, key: str, ticket: str, measurement: str) -> None:
    """Let whoever shares the bucket find a result that was accepted and is shareable, unless one is there already.
    Raises LabError, Forged."""
    path = f"measurements/{key}.json"
    with explained(f"bucket {bucket}"):
        if list(api.get_bucket_paths_info(bucket, [path])):
            return
    result = _get(api, bucket, {RESULT: f"out/{ticket}/{RESULT}"}).get(RESULT)
    if result is not None:
        entry = {"key": key, "measurement": measurement, "result": result.decode()}
        _put(api, bucket, {path: json.dumps(entry).encode()})


def shared_result(api: HfApi, bucket: str, key: str) -> tuple[str, MeasurementResult] | None:
    """(name of the measurement, its result) if somebody who shares the bucket has paid for it; an entry that
    cannot be read is none."""
    try:
        found = _get(api, bucket, {"entry": f"measurements/{key}.json"}).get("entry")
    except Forged:
        found = None
    if found is None:
        return None
    try:
        entry: dict[str, Any] = json.loads(found)
        result = parse_result(entry["result"].encode(), key)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, LabError):
        return None
    named = entry.get("key") == key and entry.get("measurement") == result.id and _NAME.fullmatch(result.id)
    return (result.id, result) if named and is_shareable(result) else None


# the bucket -----------------------------------------------------------------------------------------


def _put_missing(api: HfApi, bucket: str, files: dict[str, bytes]) -> None:
    # The paths are named by the contents, and a job checks its bundle's hash: another size is all that can be amiss.
    with explained(f"bucket {bucket}"):
        there = {entry.path: entry.size for entry in api.get_bucket_paths_info(bucket, list(files))}
    missing = {path: content for path, content in files.items() if there.get(path) != len(content)}
    if missing:
        _put(api, bucket, missing)


def _put(api: HfApi, bucket: str, files: dict[str, bytes]) -> None:
    with explained(f"bucket {bucket}"):
        api.batch_bucket_files(bucket, add=[(content, path) for path, content in sorted(files.items())])


def _get(api: HfApi, bucket: str, paths: dict[str, str]) -> dict[str, bytes]:
    """The files that are there, by the names that they are wanted under. Raises Forged for one that is too large."""
    with explained(f"bucket {bucket}"), tempfile.TemporaryDirectory(prefix="autolab-bucket-") as scratch:
        there = {entry.path: entry for entry in api.get_bucket_paths_info(bucket, list(paths.values()))}
        wanted = {name: there[path] for name, path in paths.items() if path in there}
        for entry in wanted.values():
            if entry.size > MOST_BYTES:
                raise Forged(f"{entry.path} is too large")
        if wanted:
            api.download_bucket_files(
                bucket, [(entry, Path(scratch) / name) for name, entry in wanted.items()]
            )
        return {name: (Path(scratch) / name).read_bytes() for name in wanted}
