"""What all tests share: no network, the same random examples every time, the shared real scans."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("suite", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("suite")


@pytest.fixture(scope="session", autouse=True)
def no_network():
    """Refuse every connection that would leave this machine."""
    connect = socket.socket.connect

    def connect_at_home(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
            raise OSError(f"tests have no network: a connection to {address[0]} was asked for")
        connect(self, address)

    socket.socket.connect = connect_at_home
    yield
    socket.socket.connect = connect


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real scans and public labels; a test that needs it is skipped without it."""
    folder = os.environ.get("WMH_SHARED")
    if not folder:
        pytest.skip("WMH_SHARED is not set to the folder of real scans and public labels")
    if not Path(folder).is_dir():
        pytest.fail(f"WMH_SHARED={folder} is no folder")
    return Path(folder)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
