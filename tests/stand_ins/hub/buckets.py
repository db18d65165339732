"""Buckets: files without history, by Xet's name of their content. A batch is carried out file by file."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from stand_ins.hub import repos
from stand_ins.hub.clock import now, stamp
from stand_ins.hub.routing import HttpError, Routes
from stand_ins.hub.uploads import xet_token

routes = Routes()
PAGE = 1000  # files of a listing in one answer


@dataclass(frozen=True)
class File:
    """One file of a bucket; times in seconds."""

    xet: str
    size: int
    modified: float
    uploaded: float = field(default_factory=now)

    def facts(self, path: str) -> dict[str, Any]:
        """What a listing says of it."""
        return {"type": "file", "path": path, "size": self.size, "xetHash": self.xet,
                "mtime": stamp(self.modified), "uploadedAt": stamp(self.uploaded)}  # fmt: skip


@dataclass
class Bucket:
    """A bucket and its files."""

    id: str
    private: bool
    created: float = field(default_factory=now)
    files: dict[str, File] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """What the Hub's API says of it."""
        size = sum(file.size for file in self.files.values())
        return {"id": self.id, "private": self.private, "createdAt": stamp(self.created), "size": size,
                "totalFiles": len(self.files)}  # fmt: skip

    def below(self, folder: str) -> dict[str, File]:
        """The files in a folder, by their path from there; "" is the whole bucket."""
        base = f"{folder.strip('/')}/" if folder.strip("/") else ""
        files = sorted(self.files.items())
        return {path[len(base) :]: file for path, file in files if path.startswith(base)}


def find(call: Any, hub: Any, id: str) -> Bucket:
    """A bucket that the caller may see."""
    bucket: Bucket | None = hub.buckets.get(id)
    reader = call.reader()
    if bucket is None or (bucket.private and reader != id.split("/")[0]):
        raise HttpError(404, "Bucket not found", "RepoNotFound")
    return bucket


def to_change(call: Any, hub: Any, id: str) -> Bucket:
    """A bucket that the caller may write to."""
    call.user()
    bucket = find(call, hub, id)
    call.writer(id.split("/")[0])
    return bucket


def read_file(hub: Any, id: str, path: str) -> bytes:
    """The bytes of a file, for a test to look at."""
    data: bytes = hub.store.path(hub.buckets[id].files[path].xet).read_bytes()
    return data


@routes.add("POST", r"/api/buckets/{owner}/(?P<name>[\w.-]+)")
def _create(call: Any, hub: Any, owner: str, name: str) -> None:
    owner = call.user() if owner == "me" else owner
    call.writer(owner)
    url = f"{hub.base}/buckets/{owner}/{name}"
    with hub.lock:
        if f"{owner}/{name}" in hub.buckets:  # `exist_ok` reads the address from this answer
            raise HttpError(409, "You already created this bucket", url=url)
        private = json.loads(call.body or b"{}").get("visibility") == "private"
        hub.buckets[f"{owner}/{name}"] = Bucket(f"{owner}/{name}", private)
    call.json({"url": url, "id": uuid.uuid4().hex[:24]})


@routes.add("GET", "/api/buckets/{owner}")
def _list(call: Any, hub: Any, owner: str) -> None:
    reader = call.user() if owner == "me" else call.reader()
    owner = reader if owner == "me" else owner
    with hub.lock:
        seen = [bucket for bucket in hub.buckets.values() if not bucket.private or reader == owner]
        facts = [bucket.facts() for bucket in seen if bucket.id.startswith(owner + "/")]
    call.json(facts)


@routes.add("GET", "/api/buckets/{bucket}")
def _info(call: Any, hub: Any, bucket: str) -> None:
    with hub.lock:
        facts = find(call, hub, bucket).facts()
    call.json(facts)


@routes.add("DELETE", "/api/buckets/{bucket}")
def _delete(call: Any, hub: Any, bucket: str) -> None:
    with hub.lock:
        del hub.buckets[to_change(call, hub, bucket).id]
    call.send(200)


@routes.add("GET", "/api/buckets/{bucket}/tree(/{path})?")
def _tree(call: Any, hub: Any, bucket: str, path: str = "") -> None:
    with hub.lock:
        files = sorted(find(call, hub, bucket).files.items())
    rows: dict[str, dict[str, Any]] = {}
    for name, file in files:
        if not name.startswith(path):  # by letters: "a" finds "ab/c" as well
            continue
        rest = name[len(path) :].lstrip("/")
        if call.query.get("recursive") == ["true"] or "/" not in rest:
            rows[name] = file.facts(name)
        else:
            folder = name[: len(name) - len(rest)] + rest.split("/")[0]
            rows[folder] = {"type": "directory", "path": folder, "uploadedAt": stamp(file.uploaded)}
    start = int(call.query.get("cursor", ["0"])[0])
    call.page(list(rows.values())[start : start + PAGE], start + PAGE if len(rows) > start + PAGE else None)


@routes.add("POST", "/api/buckets/{bucket}/paths-info")
def _paths(call: Any, hub: Any, bucket: str) -> None:
    files = find(call, hub, bucket).files
    wanted = json.loads(call.body)["paths"]
    call.json([files[path].facts(path) for path in wanted if path in files])


@routes.add("POST", "/api/buckets/{bucket}/batch")
def _batch(call: Any, hub: Any, bucket: str) -> None:
    orders = [json.loads(line) for line in call.body.splitlines() if line.strip()]
    failed = []
    with hub.lock:
        files = to_change(call, hub, bucket).files
        for order in orders:
            try:
                _carry_out(call, hub, files, order)
            except HttpError as error:
                failed.append({"path": order["path"], "error": error.message})
    answer = {"success": not failed, "processed": len(orders), "succeeded": len(orders) - len(failed)}
    call.json({**answer, "failed": failed}, 422 if orders and len(failed) == len(orders) else 200)


def _carry_out(call: Any, hub: Any, files: dict[str, File], order: dict[str, Any]) -> None:
    path = order["path"]
    if order["type"] == "deleteFile":
        if files.pop(path, None) is None:
            raise HttpError(404, "File not found")
        return
    if not path or any(part in ("", ".", "..") for part in path.split("/")):
        raise HttpError(422, "Invalid path")
    if order["type"] == "copyFile":
        kind, source = order["sourceRepoType"], order["sourceRepoId"]
        _ = find(call, hub, source) if kind == "bucket" else repos.find(call, hub, kind + "s", source)
    size = hub.store.xet_size(order["xetHash"])
    if size is None:
        raise HttpError(422, "There is no content with this hash")
    files[path] = File(order["xetHash"], size, order["mtime"] / 1000 if order.get("mtime") else now())


@routes.add("GET", "/api/buckets/{bucket}/xet-{mode}-token")
def _xet_token(call: Any, hub: Any, bucket: str, mode: str) -> None:
    _ = to_change(call, hub, bucket) if mode == "write" else find(call, hub, bucket)
    xet_token(call, hub)


@routes.add("HEAD|GET", "/buckets/{bucket}/resolve/{path}")
def _resolve(call: Any, hub: Any, bucket: str, path: str) -> None:
    file = find(call, hub, bucket).files.get(path)
    if file is None:
        raise HttpError(404, "Entry not found", "EntryNotFound")
    headers = {"ETag": f'"{file.xet}"', "X-Linked-Size": str(file.size), "X-Xet-Hash": file.xet,
               "X-Xet-Refresh-Route": f"{hub.base}/api/buckets/{bucket}/xet-read-token"}  # fmt: skip
    call.file(file.size, lambda: hub.store.path(file.xet).read_bytes(), headers)
