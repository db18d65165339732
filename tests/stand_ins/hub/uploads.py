"""How large files come in and go out: preupload, git-LFS, and Xet over the store that hf_xet brings along.

Xet's own protocol is not made here: the token points the client at `local://DIRECTORY`, a store built into
the hf_xet wheel. It is no public contract, so hf_xet is pinned.
"""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stand_ins.hub.repos import find
from stand_ins.hub.routing import HttpError, Routes

routes = Routes()
LFS_BYTES = 10 * 1024 * 1024


class Store:
    """Large files: those that came by plain LFS, by SHA-256, and the content-addressed store of Xet."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.plain: dict[str, bytes] = {}
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def address(self) -> str:
        """What the client is told."""
        return f"local://{self.directory}"

    def xet_hash(self, sha256: str) -> str | None:
        """Xet's name for a content, from the shards that the client uploaded."""
        for path in self.directory.glob("xet/xorbs/shards/*.mdb"):
            for name, digest in _shard(path.read_bytes()):
                if digest == sha256:
                    return name
        return None

    def read(self, sha256: str, size: int) -> bytes:
        """A large file's content."""
        if sha256 in self.plain or not size:
            return self.plain.get(sha256, b"")
        import hf_xet

        with tempfile.NamedTemporaryFile(dir=self.directory) as file:
            with hf_xet.XetSession().new_file_download_group(endpoint=self.address) as group:
                group.start_download_file(hf_xet.XetFileInfo(self.xet_hash(sha256), size), file.name)
            return Path(file.name).read_bytes()


def _shard(data: bytes) -> Iterator[tuple[str, str]]:
    """(xet hash, sha256) of the files in a shard: a header, then blocks of 48 bytes up to one of all ones."""

    def hexadecimal(raw: bytes) -> str:  # words are little-endian
        return b"".join(raw[i : i + 8][::-1] for i in range(0, 32, 8)).hex()

    at = 48
    while data[at : at + 32] != b"\xff" * 32:
        name = hexadecimal(data[at : at + 32])
        flags, entries = (int.from_bytes(data[at + i : at + i + 4], "little") for i in (32, 36))
        at += 48 + 48 * entries * (2 if flags & 0x80000000 else 1)
        if flags & 0x40000000:
            yield name, hexadecimal(data[at : at + 32])
            at += 48


@routes.add("POST", "/api/{type}/{id}/preupload/{rev}")
def _preupload(call: Any, hub: Any, type: str, id: str, rev: str) -> None:
    tree = find(call, hub, type, id).at(rev).tree
    call.writer(id.split("/")[0])
    answers = []
    for file in json.loads(call.body)["files"]:
        large = file["size"] > LFS_BYTES or b"\0" in base64.b64decode(file["sample"])
        answer = {"path": file["path"], "shouldIgnore": False, "uploadMode": "lfs" if large else "regular"}
        if file["path"] in tree:
            answer["oid"] = tree[file["path"]].large or tree[file["path"]].name
        answers.append(answer)
    call.json({"files": answers})


@routes.add("POST", "/(?P<type>datasets/|spaces/|){id}.git/info/lfs/objects/batch")
def _batch(call: Any, hub: Any, type: str, id: str) -> None:
    call.writer(id.split("/")[0])
    objects = []
    for wanted in json.loads(call.body)["objects"]:
        there = {"oid": wanted["oid"], "size": wanted["size"]}
        if wanted["oid"] not in hub.store.plain:
            there["actions"] = {"upload": {"href": f"{hub.base}/_lfs/{wanted['oid']}"}}
        objects.append(there)
    call.json({"transfer": "basic", "objects": objects})


@routes.add("PUT", "/_lfs/{sha}")
def _put(call: Any, hub: Any, sha: str) -> None:
    if hashlib.sha256(call.body).hexdigest() != sha:
        raise HttpError(400, "sha256 mismatch")
    hub.store.plain[sha] = call.body
    call.send(200)


@routes.add("GET", "/api/{type}/{id}/xet-(?P<mode>read|write)-token(/{rev})?")
def _xet_token(call: Any, hub: Any, type: str, id: str, mode: str, rev: str = "main") -> None:
    if mode == "write":
        call.writer(id.split("/")[0])
    expires = int(time.time()) + 3600
    call.json(
        {"casUrl": hub.store.address, "exp": expires, "accessToken": "xet"},
        headers={"X-Xet-Cas-Url": hub.store.address, "X-Xet-Token-Expiration": str(expires),
                 "X-Xet-Access-Token": "xet"},
    )  # fmt: skip
