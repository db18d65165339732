"""What runs inside a seat's sandbox: OpenCode's server, and two relays that are its only way out and in.

Standard library only, and nothing from autolab: it runs as a script where nothing else is visible.

    inside.py OPENCODE CONTROL_SOCKET MODEL_SOCKET

The sandbox has a network of its own with nothing in it. Requests from the lab come in through CONTROL_SOCKET and
go to the server's port; what OpenCode asks of the model goes from a port of ours out through MODEL_SOCKET. When
standard input closes, the lab is gone, and everything here ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys

CHUNK = 1 << 16


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction until its end."""
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()


async def join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    there: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    """Connect two streams both ways until both have ended."""
    await asyncio.gather(relay(reader, there[1]), relay(there[0], writer))
    for one in (writer, there[1]):
        one.close()


def free_port() -> int:
    """A port that nobody listens on; in the sandbox nobody else could take it meanwhile."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def main(opencode: str, control: str, model: str) -> int:
    """Serve until OpenCode or the lab ends; the exit code is OpenCode's."""
    port = free_port()

    async def in_(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection("127.0.0.1", port)
        except OSError:  # not up yet, or dead: the caller sees a closed connection and tries again
            writer.close()
            return
        await join(reader, writer, there)

    async def out(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_unix_connection(model)
        except OSError:
            writer.close()
            return
        await join(reader, writer, there)

    way_out = await asyncio.start_server(out, "127.0.0.1", 0)
    address = way_out.sockets[0].getsockname()[1]
    await asyncio.start_unix_server(in_, control)
    environment = {**os.environ, "AUTOLAB_MODEL_URL": f"http://127.0.0.1:{address}/v1"}
    server = await asyncio.create_subprocess_exec(
        *(opencode, "serve", "--hostname", "127.0.0.1", "--port", str(port)),
        stdin=asyncio.subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    lifeline = asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    ended = asyncio.ensure_future(server.wait())
    await asyncio.wait([asyncio.ensure_future(lifeline), ended], return_when=asyncio.FIRST_COMPLETED)
    if not ended.done():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        await ended
    os._exit(max(0, server.returncode or 0))  # the thread that waits for the lifeline would keep us


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
