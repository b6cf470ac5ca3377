"""Many clients at once on loopback: own pictures or 429, never another's, no 5xx, memory flat.

Starts a server in a process of its own. Each client sends a picture that no other client sends,
again and again, and compares what comes back with what it sent: known pixels bit for bit, and a
hole that has changed. On 429 it waits as long as Retry-After says. The server's memory is read
each second from /proc.

    python benchmarks/clients.py                      # 200 clients, two minutes
    python benchmarks/clients.py --clients 50 --seconds 30
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import io
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

SIDES = (64, 96, 128)
PAGE = os.sysconf("SC_PAGE_SIZE")
SERVER = """
import socket, sys, uvicorn
from retouch.web.app import create_app
from retouch.web.settings import Settings
listening = socket.socket(); listening.bind(("127.0.0.1", 0))
port = listening.getsockname()[1]
print(f"port {port}", flush=True)
settings = Settings(port=port, together=int(sys.argv[1]))
uvicorn.Server(uvicorn.Config(create_app(settings), log_level="error")).run(sockets=[listening])
"""


@dataclass
class Tally:
    """What happened."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


def encode(array: np.ndarray) -> bytes:
    """Write as PNG."""
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def is_own(answer: bytes, sent: np.ndarray, mask: np.ndarray) -> bool:
    """Whether an answer is the filled form of what was sent."""
    got = np.asarray(Image.open(io.BytesIO(answer)))
    if got.shape != sent.shape or not np.array_equal(got[~mask], sent[~mask]):
        return False
    return bool((got[mask] != sent[mask]).any())


async def client(number: int, http: httpx.AsyncClient, end: float, tally: Tally) -> None:
    """Ask until the time is over."""
    rng = np.random.default_rng(number)
    side = SIDES[number % len(SIDES)]
    while time.monotonic() < end:
        sent = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        mask = np.zeros((side, side), bool)
        top, left = rng.integers(4, side // 2, 2)
        mask[top : top + side // 3, left : left + side // 3] = True
        started = time.monotonic()
        try:
            answer = await http.post(
                "/fill", files={"image": encode(sent), "mask": encode(mask)}, timeout=60
            )
        except httpx.TransportError as error:
            tally.broken[type(error).__name__] += 1
            continue
        tally.statuses[answer.status_code] += 1
        if answer.status_code == 200:
            tally.seconds.append(time.monotonic() - started)
            tally.wrong += not is_own(answer.content, sent, mask)
        elif answer.status_code == 429:
            wait = float(answer.headers["Retry-After"]) * rng.uniform(1, 2)
            await asyncio.sleep(min(wait, max(0.0, end - time.monotonic())))


async def watch(process: int, end: float, tally: Tally) -> None:
    """Read the server's resident memory each second [MiB]."""
    while time.monotonic() < end:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        tally.memory.append(pages * PAGE / 2**20)
        await asyncio.sleep(1)


async def load(port: int, process: int, clients: int, seconds: float) -> Tally:
    """Let all clients ask at once."""
    tally = Tally()
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    base = f"http://127.0.0.1:{port}/api/v1"
    async with httpx.AsyncClient(base_url=base, limits=limits) as http:
        while (await http.get("/health")).json()["status"] != "ready":
            await asyncio.sleep(0.1)
        end = time.monotonic() + seconds
        asking = [client(number, http, end, tally) for number in range(clients)]
        await asyncio.gather(watch(process, end, tally), *asking)
    return tally


def report(tally: Tally, seconds: float) -> bool:
    """Print what happened, and whether all is well."""
    done = tally.statuses[200]
    quarter = max(1, len(tally.memory) // 4)
    parts = [tally.memory[i * quarter : (i + 1) * quarter] or tally.memory for i in range(4)]
    middles = [statistics.median(part) for part in parts]
    print(f"answers: {dict(sorted(tally.statuses.items()))}, no answer: {dict(tally.broken)}")
    print(f"wrong pictures: {tally.wrong} of {done}; {done / seconds:.1f} fills a second")
    if done:
        waits = sorted(tally.seconds)
        print(f"answered after {statistics.median(waits):.2f} s (median), {waits[-1]:.2f} s (most)")
    grown = middles[3] - middles[2]  # in the first half the network meets its batch sizes
    listed = ", ".join(f"{middle:.0f}" for middle in middles)
    print(f"server's memory: {max(tally.memory):.0f} MiB at most; by quarters {listed} MiB")
    served = not any(status >= 500 for status in tally.statuses) and not tally.broken
    return served and done > 0 and not tally.wrong and grown < 0.05 * max(tally.memory)


def main() -> None:
    """Run the server and the clients."""
    parser = argparse.ArgumentParser(description="Load the server with many clients.")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--together", type=int, default=4, help="fills of one size at once")
    options = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    cores = len(os.sched_getaffinity(0))
    print(f"Commit {commit}, {datetime.date.today()}, {cores} cores, {platform.platform()}")
    print(f"{options.clients} clients, {options.seconds:g} s, {options.together} fills together")
    command = [sys.executable, "-c", SERVER, str(options.together)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            line = server.stdout.readline() if server.stdout else ""
            found = re.match(r"port (\d+)", line)
            if found is None:
                sys.exit("the server does not start")
            asking = load(int(found[1]), server.pid, options.clients, options.seconds)
            well = report(asyncio.run(asking), options.seconds)
        finally:
            server.terminate()
    print("all is well" if well else "SOMETHING IS WRONG")
    sys.exit(not well)


if __name__ == "__main__":
    main()
