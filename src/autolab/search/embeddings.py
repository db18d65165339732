"""Hypotheses as points of a space in which like stands near like, from an endpoint of one's own choice.

`AUTOLAB_EMBEDDINGS=https://host/v1#model` names any endpoint that speaks OpenAI's `/embeddings`; a key, if it wants
one, is in `AUTOLAB_EMBEDDINGS_KEY`. Without it nothing is sent anywhere.
"""

from __future__ import annotations

import os
import time
import warnings
from functools import lru_cache

import numpy as np

VARIABLE, KEY = "AUTOLAB_EMBEDDINGS", "AUTOLAB_EMBEDDINGS_KEY"
SECONDS = 5.0  # for an answer
REST_SECONDS = 60.0  # after a failure, during which the endpoint is left alone
_rests_until = 0.0


def embedding(text: str) -> tuple[str, bytes]:
    """(model, vector as float16 of length 1) of a text; both empty if there is no endpoint, or if it fails: then there
    is one warning, and the caller goes by the words. Texts that were asked for lately are not asked for again."""
    global _rests_until
    url, _, model = os.environ.get(VARIABLE, "").partition("#")
    if not url or not text.strip() or time.monotonic() < _rests_until:
        return "", b""
    try:
        return model, _fetch(url.rstrip("/"), model, text)
    except Exception as problem:  # whatever a foreign server does, a trial is not lost over it
        _rests_until = time.monotonic() + REST_SECONDS
        warnings.warn(
            f"{VARIABLE} does not answer ({str(problem)[:200]}): hypotheses are compared by their words",
            RuntimeWarning,
            stacklevel=2,
        )
        return "", b""


@lru_cache(maxsize=4096)
def _fetch(url: str, model: str, text: str) -> bytes:
    import httpx2

    key = os.environ.get(KEY, "")
    answer = httpx2.post(
        f"{url}/embeddings",
        json={"model": model, "input": [text[:4000]]},
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=SECONDS,
    )
    answer.raise_for_status()
    vector = np.asarray(answer.json()["data"][0]["embedding"], dtype=np.float64)
    length = float(np.linalg.norm(vector))
    if vector.ndim != 1 or not np.isfinite(length) or length == 0:
        raise ValueError("the answer is no vector")
    return (vector / length).astype(np.float16).tobytes()
