"""Text within a number of bytes: whole lines of every part, taken in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MORE = len(" (100000 of 100000)")


def fit(
    parts: Sequence[tuple[str, Sequence[str]]], limit: int, shares: Mapping[str, int] | None = None
) -> str:
    """Markdown of at most `limit` bytes: as many lines of every part (title, lines) as fit, taken in turn, each part's
    first lines first, so that no part crowds out the others.

    `shares` says how many lines a part takes in its turn, by its title; one, if it is not named. A part without room
    for its first line is left out, title and all. Lines that cannot fit any more are not looked at.
    """
    chosen: list[list[str]] = [[] for _ in parts]
    room = limit
    waiting = {place: 0 for place, (_, lines) in enumerate(parts) if lines}
    while waiting:
        for place in list(waiting):
            title, lines = parts[place]
            for _ in range((shares or {}).get(title, 1)):
                line = lines[waiting[place]]
                size = len(line.encode()) + 1
                if not chosen[place]:
                    size += len(f"## {title}\n\n".encode()) + MORE
                if size > room:
                    del waiting[place]
                    break
                room -= size
                chosen[place].append(line)
                waiting[place] += 1
                if waiting[place] == len(lines):
                    del waiting[place]
                    break
    texts = []
    for (title, every), some in zip(parts, chosen, strict=True):
        if some:
            count = f" ({len(some)} of {len(every)})" if len(every) > len(some) else ""
            texts.append("\n".join([f"## {title}{count}", *some]))
    return "\n\n".join(texts)
