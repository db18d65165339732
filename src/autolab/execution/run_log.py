"""The output of a measurement's processes, kept within bounds.

Standard library only, and nothing from autolab: these files run by themselves on other machines.
"""

from __future__ import annotations

LOG_HEAD, LOG_TAIL = 32 << 10, 96 << 10  # bytes kept


class Log:
    """The output of all phases: counted whole, kept as head and tail."""

    def __init__(self) -> None:
        self.head = bytearray()
        self.tail = bytearray()
        self.total = 0
        self._phase_start = 0

    def feed(self, data: bytes) -> None:
        self.total += len(data)
        room = LOG_HEAD - len(self.head)
        if room > 0:
            self.head += data[:room]
            data = data[room:]
        self.tail += data
        if len(self.tail) > 2 * LOG_TAIL:
            del self.tail[:-LOG_TAIL]

    def begin_phase(self, name: str) -> None:
        self.feed(f"{'' if self.total == 0 else chr(10)}--- {name}\n".encode())
        self._phase_start = self.total

    def text(self) -> bytes:
        """Head and tail, as they came."""
        tail = self.tail[-LOG_TAIL:]
        dropped = self.total - len(self.head) - len(tail)
        middle = f"\n… {dropped} bytes left out …\n".encode() if dropped > 0 else b""
        return bytes(self.head) + middle + bytes(tail)

    def phase_text(self) -> bytes:
        """The end of the present phase's output, at most LOG_TAIL bytes."""
        kept = bytes(self.head) + bytes(self.tail)
        length = min(self.total - self._phase_start, LOG_TAIL)
        return kept[-length:] if length else b""
