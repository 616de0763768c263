# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 in the clear with prior knowledge, both ends of it, for what sidecars carry."""

from __future__ import annotations

import socket

import h2.config
import h2.connection
import h2.events


def ask(client: socket.socket, path: str) -> tuple[str, bytes]:
    """One GET; status and body."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    connection.initiate_connection()
    headers = [(":method", "GET"), (":path", path), (":scheme", "http"), (":authority", "policylab")]
    connection.send_headers(1, headers, end_stream=True)
    client.sendall(connection.data_to_send())
    status, body = "", b""
    while True:
        for event in connection.receive_data(client.recv(65536)):
            if isinstance(event, h2.events.ResponseReceived):
                status = dict(event.headers)[":status"]
            elif isinstance(event, h2.events.DataReceived):
                body += event.data
            elif isinstance(event, h2.events.StreamEnded):
                return status, body
        client.sendall(connection.data_to_send())


def answer(server: socket.socket, body: bytes) -> None:
    """Answer every request of a connection until it is closed."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    connection.initiate_connection()
    server.sendall(connection.data_to_send())
    while data := server.recv(65536):
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                connection.send_headers(event.stream_id, [(":status", "200")])
                connection.send_data(event.stream_id, body, end_stream=True)
        server.sendall(connection.data_to_send())
