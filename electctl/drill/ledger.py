"""The resources that leaders write to in a drill: ``ledger.py SOCKET LOG``, until its stdin ends.

One process holds an unfenced resource, which takes everything, and a fenced one, which keeps the
highest token that it has seen and refuses lower ones. It also writes down what writers tell of the
third, the guarded checkpoint, which is the store's. What comes is put in one order, on one clock.

A process and no file under a lock: a leader that is stopped while it holds a lock would keep the
next one from writing, and the drill would show the lock.

A script of its own, run with ``python -I -S``. Requests are one packet, words with a blank between:

    write CANDIDATE TOKEN TIME                   answered with "accepted" or "refused"
    try   CANDIDATE TOKEN TIME VERSION           a checkpoint is about to be set; not answered
    set   CANDIDATE TOKEN TIME VERSION OUTCOME   what came of it
    get   CANDIDATE TOKEN TIME BEGAN VALUE       what it was; VALUE is - for nothing

TOKEN is - where there is none; then nothing can be fenced, and the fenced resource takes all. Times
are nanoseconds of CLOCK_BOOTTIME, TIME that of sending. Each line of LOG is such a request behind
the time at which it was taken in and, of a write, before what the fenced resource said.

What this does not guarantee: an order of two writes that wait at the same moment but their own
TIME; a ledger that is starved of its processor is late, and keeps that order.
"""

import os
import select
import socket
import sys
import time

_LONGEST = 4096


def _now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Ledger:
    """The resources. Lines go to ``log``, a descriptor."""

    def __init__(self, log: int) -> None:
        self._log = log
        self._highest = -1
        self._last = 0

    def take(self, words: list[bytes]) -> bytes | None:
        """One request, and its answer."""
        answer = None
        # No two at the same moment: what came later has the later time.
        at = self._last = max(_now(), self._last + 1)
        if words[0] == b"write":
            answer = self._write(words[2])
            words = [*words, answer]
        os.write(self._log, b" ".join([str(at).encode(), *words]) + b"\n")
        return answer

    def _write(self, token: bytes) -> bytes:
        if token == b"-":
            return b"accepted"
        if int(token) < self._highest:
            return b"refused"
        self._highest = int(token)
        return b"accepted"


def _sent(words: list[bytes]) -> int:
    return int(words[3])


def serve(listener: socket.socket, ledger: Ledger) -> None:
    """Until the standard input ends."""
    poll = select.poll()
    writers: dict[int, socket.socket] = {}
    poll.register(0, select.POLLIN)
    poll.register(listener, select.POLLIN)
    while True:
        waiting = []
        for fd, _ in poll.poll():
            if fd == 0:
                return
            if fd == listener.fileno():
                writer = listener.accept()[0]
                writers[writer.fileno()] = writer
                poll.register(writer, select.POLLIN)
                continue
            try:
                packet = writers[fd].recv(_LONGEST)
            except ConnectionError:
                packet = b""
            if packet:
                waiting.append((writers[fd], packet.split(b" ")))
            else:
                poll.unregister(fd)
                writers.pop(fd).close()
        for writer, words in sorted(waiting, key=lambda each: _sent(each[1])):
            answer = ledger.take(words)
            if answer is not None:
                try:
                    writer.send(answer)
                except OSError:
                    continue  # killed meanwhile: it is seen when it is read from


def main() -> None:
    """Listen, and say so with one byte on the standard output."""
    path, log = sys.argv[1:]
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # A short name: the path of a socket has an end, which that of a directory has not.
    folder, name = os.path.split(path)
    os.chdir(folder)
    listener.bind(name)
    listener.listen(64)
    os.write(1, b"\n")
    serve(listener, Ledger(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)))


if __name__ == "__main__":
    main()
