"""Loaded by every Python that finds this folder on its path: no connection leaves this machine, and each try is noted.

Loopback stays open, because notebooks talk with their kernels and `torchrun` with its processes through it.
"""

import os
import socket

_LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0", "::ffff:127.")


def _is_local(address) -> bool:
    if not isinstance(address, tuple):  # a Unix socket
        return True
    host = address[0].decode() if isinstance(address[0], bytes) else str(address[0] or "localhost")
    return host.startswith(_LOOPBACK) or host in ("", socket.gethostname())


def _refuse(address) -> None:
    log = os.environ.get("COURSE_OFFLINE_LOG")
    if log:
        with open(log, "a", encoding="utf-8") as target:
            target.write(f"{address}\n")
    raise OSError(f"no network here: something tried to reach {address}")


def _guarded(method):
    def call(self, address, *rest):
        if self.family != getattr(socket, "AF_UNIX", None) and not _is_local(address):
            _refuse(address)
        return method(self, address, *rest)

    return call


def _guarded_lookup(lookup):
    def call(host, *rest, **options):
        if not _is_local((host,)):
            _refuse(host)
        return lookup(host, *rest, **options)

    return call


socket.socket.connect = _guarded(socket.socket.connect)
socket.socket.connect_ex = _guarded(socket.socket.connect_ex)
socket.getaddrinfo = _guarded_lookup(socket.getaddrinfo)
