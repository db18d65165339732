"""Measure a bundle in a container of the cloud: unpack it, check its data, run the runner, hand the result back.

    python remote.py --ticket T --bundle FILE.tar --sha256 HEX --out DIR [--data DIR --manifest HEX]

The volumes: FILE.tar and the runner's own files, read-only; the data, read-only, copied to the local disk before any
clock runs; DIR for what comes back: measurement.json, log.txt, and last receipt.json, which says by hashes what was
measured and what the result is. Exit code 0: the receipt is there. What is printed is for people.

Standard library only, and nothing from autolab: it runs where nothing else is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile

TYPE_CHECKING = False  # as in typing, whose import would take long
if TYPE_CHECKING:
    from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
MANIFEST = "manifest.json"
INSTALL_SECONDS = 180


def main() -> int:
    """Command line; see the top of this file."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("--ticket", "--bundle", "--sha256", "--out"):
        parser.add_argument(name, required=True)
    for name in ("--data", "--manifest"):
        parser.add_argument(name)
    given = parser.parse_args()
    try:
        place = tempfile.mkdtemp(prefix="autolab-")
        bundle = os.path.join(place, "bundle")
        unpack(given.bundle, given.sha256, bundle)
        data = fetch(given.data, given.manifest, os.path.join(place, "data")) if given.data else None
        settle(bundle, data)
        if data is not None:
            check(data, given.manifest)
        code = run(bundle)
        if code != 0:
            return fail(given.out, f"the runner ended with {code}")
        hand_back(bundle, given.out, given.ticket, given.sha256)
    except (OSError, ValueError, KeyError, tarfile.TarError, subprocess.SubprocessError) as error:
        return fail(given.out, f"cannot measure here: {error}")
    return 0


def fail(out: str, why: str) -> int:
    """Say why there is no result: to who reads the job's log, and to the lab. The exit code."""
    print(why, flush=True)
    with contextlib.suppress(OSError):
        write(os.path.join(out, "log.txt"), why.encode("utf-8", "replace"))
    return 1


def unpack(archive: str, expected: str, bundle: str) -> None:
    """Unpack the bundle if its hash is the expected one. Raises ValueError, OSError, TarError."""
    with open(archive, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != expected:
            raise ValueError("the bundle is not what was sent")
        file.seek(0)
        with tarfile.open(fileobj=file) as tar:
            tar.extractall(bundle, filter="data")


def fetch(source: str, manifest: str, target: str) -> str:
    """Copy the prepared data to the local disk, where reading takes the same time for everybody."""
    shutil.copytree(source, target)
    check(target, manifest)
    return target


def check(data: str, manifest: str) -> None:
    """Raise ValueError that names the first file that is not what the manifest with this hash says."""
    with open(os.path.join(data, MANIFEST), "rb") as file:
        text = file.read()
    if hashlib.sha256(text).hexdigest() != manifest:
        raise ValueError("the data on this machine is other data: its manifest differs")
    for name, digest in json.loads(text)["files"].items():
        with open(os.path.join(data, name), "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise ValueError(f"the data was changed: {name}")


def settle(bundle: str, data: str | None) -> None:
    """Write into the bundle's spec what only this machine knows, and let the task's own command finish the data."""
    path = os.path.join(bundle, "spec.json")
    with open(path, encoding="utf-8") as file:
        spec: dict[str, Any] = json.load(file)
    mode, reason = sandbox_here()
    print(f"sandbox: {mode} ({reason})", flush=True)
    pace = os.path.join(bundle, "pace.json")
    spec |= {"python": sys.executable, "sandbox": mode, "data": data}
    spec["pace"] = pace if os.path.exists(pace) else None
    if data is not None:
        finish_data(bundle, spec, data)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(spec, file)


def finish_data(bundle: str, spec: dict[str, Any], data: str) -> None:
    """Run the task's own command on data that came from elsewhere; it adds what is only true of this machine."""
    command = spec["commands"].get("prepare")
    if not command:
        return
    argv = [sys.executable, *command[1:]] if command[0] == "python" else command
    own = {"AUTOLAB_DATA": data, "AUTOLAB_PROFILE": spec["profile"], "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory() as scratch:  # what it writes beside the evaluator would be in the way
        where = shutil.copytree(os.path.join(bundle, "pristine"), os.path.join(scratch, "files"))
        subprocess.run(argv, cwd=where, env={**clean_environment(), **own}, check=True)


def sandbox_here() -> tuple[str, str]:
    """(mode, reason); installs bubblewrap if that is all that is missing and this container lets us."""
    sys.path.insert(0, HERE)
    sandbox = importlib.import_module("sandbox")
    if sandbox.find_bubblewrap() is None and os.getuid() == 0 and shutil.which("apt-get"):
        for words in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", "bubblewrap"]):
            try:
                subprocess.run(["apt-get", *words], timeout=INSTALL_SECONDS, stdout=subprocess.DEVNULL)
            except (OSError, subprocess.TimeoutExpired) as error:
                print(f"bubblewrap cannot be installed: {error}", flush=True)
    mode, reason = sandbox.available()
    return str(mode), str(reason)


def clean_environment() -> dict[str, str]:
    """No variable of the container is passed on, but those that find programs."""
    wanted = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TZ")
    return {name: os.environ[name] for name in wanted if name in os.environ}


def run(bundle: str) -> int:
    """The runner's exit code; a container that is told to stop stops it."""
    argv = [sys.executable, "-I", "-S", os.path.join(HERE, "runner.py"), bundle]
    with open(os.path.join(bundle, "spec.json"), encoding="utf-8") as file:
        if json.load(file)["gpu"]:
            argv += ["--gpu", "0"]
    runner = subprocess.Popen(argv, env=clean_environment(), stdin=subprocess.DEVNULL)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: runner.terminate())
    return runner.wait()


def hand_back(bundle: str, out: str, ticket: str, sha256: str) -> None:
    """Leave the result where the lab looks for it, the receipt last; print the log for people."""
    with open(os.path.join(bundle, "measurement.json"), "rb") as file:
        result = file.read()
    try:
        with open(os.path.join(bundle, "log.txt"), "rb") as file:
            log = file.read()
    except OSError:
        log = b""
    receipt = {"ticket": ticket, "bundle": sha256, "measurement": hashlib.sha256(result).hexdigest()}
    write(os.path.join(out, "log.txt"), log)
    write(os.path.join(out, "measurement.json"), result)
    write(os.path.join(out, "receipt.json"), json.dumps(receipt).encode())
    sys.stdout.write(log.decode("utf-8", "replace"))
    print(f"measured: {json.loads(result)['status']}", flush=True)


def write(path: str, content: bytes) -> None:
    """Whole or not at all, and on the disk: a mounted bucket sends a file off when it is synced and closed."""
    with open(path + ".part", "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".part", path)


if __name__ == "__main__":
    sys.exit(main())
