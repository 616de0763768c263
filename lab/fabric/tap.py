# SPDX-License-Identifier: Apache-2.0
"""Tap devices: a wire whose other end is a descriptor, for an emulator; it is gone with the last of them."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import ExitStack
from fcntl import ioctl
from typing import Final

from lab.errors import HostError
from lab.fabric.messages import Interface

__all__ = ["open_tap"]

_DEVICE: Final = "/dev/net/tun"
# linux/if_tun.h, linux/sockios.h, linux/if_arp.h
_TUNSETIFF, _TUNSETIFINDEX, _SIOCSIFHWADDR, _SIOCSIFTXQLEN = 0x400454CA, 0x400454DA, 0x8924, 0x8943
_IFF_TAP, _IFF_NO_PI, _ARPHRD_ETHER = 0x0002, 0x1000, 1
_IFREQ_FLAGS: Final = struct.Struct("16sH22x")
_IFREQ_ADDRESS: Final = struct.Struct("16sH6s16x")
_IFREQ_NUMBER: Final = struct.Struct("16si20x")
_QUEUE: Final = 4096
"""Frames that wait for whoever reads the descriptor; the kernel's own number, 500, is less than a batch of packets."""


def open_tap(interface: Interface) -> int:
    """Make a tap in this thread's namespace; returns the descriptor that holds it. Raises HostError."""
    with ExitStack() as failed:
        try:
            descriptor = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
            failed.callback(os.close, descriptor)
            name = interface.name.encode("ascii")
            ioctl(descriptor, _TUNSETIFINDEX, struct.pack("I", interface.ifindex))
            ioctl(descriptor, _TUNSETIFF, _IFREQ_FLAGS.pack(name, _IFF_TAP | _IFF_NO_PI))
            ioctl(descriptor, _SIOCSIFHWADDR, _IFREQ_ADDRESS.pack(name, _ARPHRD_ETHER, interface.mac))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
                ioctl(any_socket, _SIOCSIFTXQLEN, _IFREQ_NUMBER.pack(name, _QUEUE))
        except OSError as error:
            raise HostError(
                f"no tap can be had for a machine: {error.strerror}",
                place=_DEVICE,
                next_step="load the kernel module tun (modprobe tun)",
            ) from error
        failed.pop_all()
    return descriptor
