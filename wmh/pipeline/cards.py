"""The GPUs ("cards") of this machine, each used by one stage at a time."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from wmh.provenance import gpus_here

VISIBLE = "CUDA_VISIBLE_DEVICES"
NO_CARD = ("", "-1", "NoDevFiles")
"""Values of ``CUDA_VISIBLE_DEVICES`` that mean "no GPU"; SLURM writes the last one."""


def cards_here() -> list[str]:
    """NVIDIA GPUs to compute on, as ``CUDA_VISIBLE_DEVICES`` names them.

    If that variable is set, by hand or by a batch system, these are the GPUs in it; otherwise all
    GPUs of the machine.
    """
    given = os.environ.get(VISIBLE)
    if given is None:
        return [str(number) for number in range(len(gpus_here()))]
    return [card for card in map(str.strip, given.split(",")) if card not in NO_CARD]


@contextmanager
def card_of_ones_own() -> Iterator[dict[str, str]]:
    """Wait for a GPU that no other stage of this user computes on, and hold it.

    Yields the environment variable that makes only this GPU visible. The system frees the GPU when
    this process ends, in whatever way. A single GPU, such as a batch system gives to a job, is not
    held: there the batch system decides which jobs run on it.
    """
    cards = cards_here()
    if len(cards) < 2:
        yield {}
        return
    with ExitStack() as stack:
        locks = {card: stack.enter_context(_lock_file(card).open("w")) for card in cards}
        while not (free := next((card for card in cards if _hold(locks[card])), None)):
            time.sleep(0.5)
        yield {VISIBLE: free}


def _lock_file(card: str) -> Path:
    name = f"wmh-{os.getuid()}-card-{card.replace('/', '_')}.lock"
    return Path(tempfile.gettempdir()) / name


def _hold(lock: object) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
