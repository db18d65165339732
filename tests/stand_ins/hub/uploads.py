"""How large files come in and go out: preupload, git-LFS, and the tokens for Xet."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from typing import Any

from stand_ins.hub.repos import find
from stand_ins.hub.routing import HttpError, Routes

routes = Routes()
LFS_BYTES = 10 * 1024 * 1024


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


@routes.add("GET", "/api/{type}/{id}/xet-{mode}-token(/{rev})?")
def _xet_token(call: Any, hub: Any, type: str, id: str, mode: str, rev: str = "main") -> None:
    find(call, hub, type, id)
    if mode == "write":
        call.writer(id.split("/")[0])
    xet_token(call, hub)


def xet_token(call: Any, hub: Any) -> None:
    """Answer where the contents are; hf_xet reads the body, the Python client the headers."""
    address, expires = hub.store.address, int(time.time()) + 3600
    headers = {"X-Xet-Cas-Url": address, "X-Xet-Token-Expiration": str(expires), "X-Xet-Access-Token": "xet"}
    call.json({"casUrl": address, "exp": expires, "accessToken": "xet"}, headers=headers)
