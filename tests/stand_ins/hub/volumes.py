"""Volumes of jobs: checked at launch, laid out as files at the start, buckets written back at the end.

A job with volumes sees a root of its own, made by bubblewrap: the machine's folders for reading, the
volumes at their places, /tmp for itself. Homes are not there; the interpreter that runs this is, wherever
it lies. /proc is the machine's: only below it can a job start a bubblewrap with a /proc of its own.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stand_ins.hub import buckets, repos
from stand_ins.hub.routing import HttpError

_OWN = {"proc", "dev", "sys", "tmp", "home", "root"}  # what the job has of its own, or not at all
HOME = "/tmp/home"


@dataclass(frozen=True)
class Mount:
    """A volume as files on this machine, and when they were last changed."""

    volume: dict[str, Any]
    directory: Path
    before: dict[str, int]

    @property
    def writable(self) -> bool:
        """Repos never are, buckets unless told otherwise."""
        return self.volume["type"] == "bucket" and not self.volume.get("readOnly")


def check(call: Any, hub: Any, volumes: list[dict[str, Any]]) -> None:
    """Refuse a launch whose volumes cannot be mounted, or are not the caller's to see or to change."""
    places = [volume.get("mountPath", "") for volume in volumes]
    for place in places:
        if not place.startswith("/") or os.path.normpath(place) != place or place == "/":
            raise HttpError(400, f"Invalid mount path {place!r}")
        if places.count(place) > 1:
            raise HttpError(400, f"Two volumes are mounted at {place}")
    for volume in volumes:
        kind, source = volume["type"], volume["source"]
        if kind != "bucket":
            repos.find(call, hub, kind + "s", source).at(volume.get("revision") or "main")
        elif volume.get("readOnly"):
            buckets.find(call, hub, source)
        else:
            buckets.to_change(call, hub, source)


def lay_out(hub: Any, volume: dict[str, Any], directory: Path) -> Mount:
    """The volume's files in a new directory. The platform reads them when they are wanted instead."""
    mount = Mount(volume, directory, {})
    directory.mkdir()
    for path, content in _contents(hub, volume):
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            target.write_bytes(content)
        elif mount.writable:
            shutil.copyfile(content, target)
        else:
            os.link(content, target)
        mount.before[path] = target.stat().st_mtime_ns
    return mount


def _contents(hub: Any, volume: dict[str, Any]) -> Iterable[tuple[str, bytes | Path]]:
    folder = (volume.get("path") or "").strip("/")
    with hub.lock:
        if volume["type"] == "bucket":
            bucket = hub.buckets.get(volume["source"])
            if bucket is None:
                raise HttpError(404, "Bucket not found")
            files = bucket.below(folder)
        else:
            repo = hub.repos.get((volume["type"] + "s", volume["source"]))
            if repo is None:
                raise HttpError(404, "Repository not found")
            tree, base = repo.at(volume.get("revision") or "main").tree, f"{folder}/" if folder else ""
            files = {path[len(base) :]: entry for path, entry in tree.items() if path.startswith(base)}
    for path, file in files.items():
        yield path, hub.store.path(file.xet) if file.xet else repos.content(hub, file)


def write_back(hub: Any, mount: Mount) -> None:
    """Make the bucket what the job left: files that are new, changed or gone."""
    left: dict[str, buckets.File] = {}
    seen: set[str] = set()
    for parent, _, names in os.walk(mount.directory):
        for full in (Path(parent, name) for name in names):
            path, state = str(full.relative_to(mount.directory)), full.lstat()
            if full.is_symlink() or not full.is_file():  # a bucket has nothing else
                continue
            seen.add(path)
            if mount.before.get(path) != state.st_mtime_ns:
                xet, size = hub.store.write(full)
                left[path] = buckets.File(xet, size, state.st_mtime)
    folder = (mount.volume.get("path") or "").strip("/")
    base = f"{folder}/" if folder else ""
    with hub.lock:
        bucket = hub.buckets.get(mount.volume["source"])
        if bucket is None:
            return
        for path in mount.before.keys() - seen:
            bucket.files.pop(base + path, None)
        for path, file in left.items():
            bucket.files[base + path] = file


def root(mounts: list[Mount], scratch: Path) -> list[str]:
    """The words that start a command in a root with these volumes; `scratch` is its /tmp."""
    bubblewrap = shutil.which("bwrap")
    if bubblewrap is None:
        raise FileNotFoundError("volumes need bubblewrap")
    (scratch / "home").mkdir(parents=True)
    hidden = _OWN | {mount.volume["mountPath"].split("/")[1] for mount in mounts}
    words = [bubblewrap, "--die-with-parent", "--dev-bind", "/proc", "/proc", "--dev-bind", "/dev", "/dev"]
    words += ["--bind", str(scratch), "/tmp"]
    for top in sorted(set(os.listdir("/")) - hidden):
        if os.path.islink(f"/{top}"):
            words += ["--symlink", os.readlink(f"/{top}"), f"/{top}"]
        else:
            words += ["--ro-bind", f"/{top}", f"/{top}"]
    for prefix in {sys.prefix, sys.base_prefix}:
        if prefix.split("/")[1] in hidden:
            words += ["--ro-bind", prefix, prefix]
    for mount in mounts:
        how = "--bind" if mount.writable else "--ro-bind"
        words += [how, str(mount.directory), mount.volume["mountPath"]]
    return [*words, "--chdir", HOME, "--"]
