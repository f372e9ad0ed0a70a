"""Carries bytes between the standard streams and a unix socket: `relay.py SOCKET SECONDS`. Each line has one.

It imports little and is a program of its own, so that it starts quickly. Where nobody listens yet, it tries for so many
seconds. It ends with the socket; the end of its standard input is handed on to the socket.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time

_PIECE = 65536


def connected(path: str, seconds: float) -> socket.socket:
    deadline = time.monotonic() + seconds
    while True:
        line = socket.socket(socket.AF_UNIX)
        try:
            line.connect(path)
            return line
        except OSError:
            line.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def carry(line: socket.socket, source: int, sink: int) -> None:
    reading = select.poll()
    reading.register(line, select.POLLIN)
    reading.register(source, select.POLLIN)
    while True:
        for descriptor, _ in reading.poll():
            if descriptor == source:
                data = os.read(source, _PIECE)
                if data:
                    line.sendall(data)
                else:
                    reading.unregister(source)
                    line.shutdown(socket.SHUT_WR)
            else:
                data = line.recv(_PIECE)
                if not data:
                    return
                while data:
                    data = data[os.write(sink, data) :]


def main() -> None:
    try:
        carry(connected(sys.argv[1], float(sys.argv[2])), 0, 1)
    except OSError as error:
        sys.stderr.write(f"relay: {error}\n")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
