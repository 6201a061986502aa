"""The GPUs of this machine, and one of them for each stage that computes on one."""

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
"""What stands in ``CUDA_VISIBLE_DEVICES`` where no card may be used; the last is SLURM's."""


def cards_here() -> list[str]:
    """NVIDIA GPUs to compute on, as ``CUDA_VISIBLE_DEVICES`` names them.

    They are those named there, by hand or by a batch system; where it is not set, all there are.
    """
    given = os.environ.get(VISIBLE)
    if given is None:
        return [str(number) for number in range(len(gpus_here()))]
    return [card for card in map(str.strip, given.split(",")) if card not in NO_CARD]


@contextmanager
def card_of_ones_own() -> Iterator[dict[str, str]]:
    """Hold a card that no other stage of this user computes on; waits until one is free.

    Yields the environment that shows this card alone. The system frees it when this process ends,
    however it does. Of a single card, such as a batch system gives its job, nothing is held: which
    jobs run on it at a time was decided by whoever gave it.
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
