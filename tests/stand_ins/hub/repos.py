"""Repos: create, look, commit (with compare-and-swap on the parent), read files back."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from stand_ins.hub.routing import HttpError, Routes

routes = Routes()


def git_name(data: bytes) -> str:
    """Git's name for a content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass(frozen=True)
class Entry:
    """One file of a commit; a large one has the SHA-256 of its content as `large`."""

    name: str
    size: int
    large: str = ""
    xet: str = ""

    def facts(self, path: str) -> dict[str, Any]:
        """What a listing says of it."""
        facts: dict[str, Any] = {"type": "file", "path": path, "oid": self.name, "size": self.size}
        if self.large:
            facts["lfs"] = {"oid": self.large, "size": self.size, "pointerSize": 134}
        if self.xet:
            facts["xetHash"] = self.xet
        return facts


@dataclass(frozen=True)
class Commit:
    """One state of a repo."""

    name: str
    title: str
    tree: dict[str, Entry]


@dataclass
class Repo:
    """A repo and its history."""

    id: str
    private: bool
    commits: list[Commit] = field(default_factory=list)

    def add(self, tree: dict[str, Entry], title: str) -> Commit:
        """One more commit."""
        commit = Commit(hashlib.sha1(f"{title}{time.time_ns()}".encode()).hexdigest(), title, tree)
        self.commits.append(commit)
        return commit

    def at(self, revision: str) -> Commit:
        """A commit by its name, or the newest as `main`."""
        for commit in self.commits:
            if len(revision) >= 7 and commit.name.startswith(revision):
                return commit
        if revision != "main":
            raise HttpError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[-1]


def find(call: Any, hub: Any, type: str, id: str) -> Repo:
    """A repo that the caller may see."""
    repo: Repo | None = hub.repos.get((type, id))
    if repo is None or (repo.private and call.reader() != id.split("/")[0]):
        raise HttpError(404, "Repository not found", "RepoNotFound")
    return repo


def content(hub: Any, entry: Entry) -> bytes:
    """The bytes of a file."""
    data: bytes = hub.store.read(entry.large) if entry.large else hub.blobs[entry.name]
    return data


def read_file(hub: Any, type: str, id: str, path: str) -> bytes:
    """The newest bytes of a file, for a test to look at."""
    return content(hub, hub.repos[type, id].commits[-1].tree[path])


@routes.add("POST", "/api/repos/create")
def _create(call: Any, hub: Any) -> None:
    asked = json.loads(call.body)
    owner = asked.get("organization") or call.user()
    call.writer(owner)
    type, id = asked.get("type", "model") + "s", f"{owner}/{asked['name']}"
    url = f"{hub.base}/{'' if type == 'models' else type + '/'}{id}"
    with hub.lock:
        if (type, id) in hub.repos:  # `exist_ok` reads the address from this answer
            raise HttpError(409, "You already created this repo", url=url)
        repo = hub.repos[type, id] = Repo(id, asked.get("visibility") == "private")
        repo.add({}, "initial commit")
    call.json({"url": url, "name": id, "id": uuid.uuid4().hex[:24]})


@routes.add("GET", "/api/{type}/{id}(/revision/{rev})?")
def _info(call: Any, hub: Any, type: str, id: str, rev: str = "main") -> None:
    repo = find(call, hub, type, id)
    commit = repo.at(rev)
    call.json({"_id": uuid.uuid4().hex[:24], "id": id, "sha": commit.name, "private": repo.private,
               "siblings": [{"rfilename": path} for path in commit.tree]})  # fmt: skip


@routes.add("GET", "/api/{type}/{id}/tree/{rev}(/{path})?")
def _tree(call: Any, hub: Any, type: str, id: str, rev: str, path: str = "") -> None:
    tree = find(call, hub, type, id).at(rev).tree
    base = path + "/" if path else ""
    below = {name: entry for name, entry in sorted(tree.items()) if name.startswith(base)}
    if path and not below:
        raise HttpError(404, "Entry not found", "EntryNotFound")
    if call.query.get("recursive") == ["true"]:
        call.json([entry.facts(name) for name, entry in below.items()])
        return
    folders = sorted({name[len(base) :].split("/")[0] for name in below if "/" in name[len(base) :]})
    call.json([{"type": "directory", "path": base + name, "oid": git_name(name.encode())} for name in folders]
              + [entry.facts(name) for name, entry in below.items() if "/" not in name[len(base) :]])  # fmt: skip


@routes.add("POST", "/api/{type}/{id}/paths-info/{rev}")
def _paths(call: Any, hub: Any, type: str, id: str, rev: str) -> None:
    tree = find(call, hub, type, id).at(rev).tree
    wanted = parse_qs(call.body.decode()).get("paths", [])  # a form, not JSON
    call.json([tree[path].facts(path) for path in wanted if path in tree])


@routes.add("POST", "/api/{type}/{id}/commit/{rev}")
def _commit(call: Any, hub: Any, type: str, id: str, rev: str) -> None:
    items = [json.loads(line) for line in call.body.splitlines() if line.strip()]
    header = next(item["value"] for item in items if item["key"] == "header")
    with hub.lock:
        repo = find(call, hub, type, id)
        call.writer(id.split("/")[0])
        newest = repo.at(rev)
        parent = header.get("parentCommit")
        if parent and not newest.name.startswith(parent):
            raise HttpError(412, "A commit has happened since. Please refresh and try again.")
        tree = dict(newest.tree)
        for item in items:
            _apply(hub, tree, item["key"], item["value"])
        commit = repo.add(tree, header["summary"])
    call.json(
        {
            "success": True,
            "commitOid": commit.name,
            "commitUrl": f"{hub.base}/{type}/{id}/commit/{commit.name}",
        }
    )


def _apply(hub: Any, tree: dict[str, Entry], key: str, value: dict[str, Any]) -> None:
    if key == "file":
        data = base64.b64decode(value["content"])
        hub.blobs[git_name(data)] = data
        tree[value["path"]] = Entry(git_name(data), len(data))
    elif key == "lfsFile":
        sha256 = value["oid"]
        xet = "" if sha256 in hub.store.plain else hub.store.xet_hash(sha256)
        if xet is None:
            raise HttpError(400, f"LFS pointer pointed to a file that does not exist: {sha256}")
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {value['size']}\n"
        tree[value["path"]] = Entry(git_name(pointer.encode()), value["size"], sha256, xet)
    elif key == "deletedFile" and tree.pop(value["path"], None) is None:
        raise HttpError(404, "A file with this name doesn't exist", "EntryNotFound")


@routes.add("HEAD|GET", "/(?P<type>datasets/|spaces/|){id}/resolve/{rev}/{path}")
def _resolve(call: Any, hub: Any, type: str, id: str, rev: str, path: str) -> None:
    kind = (type or "models/").rstrip("/")
    commit = find(call, hub, kind, id).at(rev)
    entry = commit.tree.get(path)
    if entry is None:
        raise HttpError(404, "Entry not found", "EntryNotFound")
    headers = {"X-Repo-Commit": commit.name, "ETag": f'"{entry.large or entry.name}"'}
    if entry.large:
        headers |= {"X-Linked-Etag": f'"{entry.large}"', "X-Linked-Size": str(entry.size)}
    if entry.xet:
        refresh = f"{hub.base}/api/{kind}/{id}/xet-read-token/{commit.name}"
        headers |= {"X-Xet-Hash": entry.xet, "X-Xet-Refresh-Route": refresh}
    call.file(entry.size, lambda: content(hub, entry), headers)
