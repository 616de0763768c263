# SPDX-License-Identifier: Apache-2.0
"""A driver for tests that Felix could start: it keeps what it is told, and has the sample's rules put in force."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys

from external_plugins import SAMPLE

from dataplanes.external.felix import FelixState
from dataplanes.external.felix.schema import FROM_DATAPLANE, SCHEMAS
from dataplanes.external.felix.wire import encode
from dataplanes.external.messages import plain

TABLE = "felix"


def read(length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = os.read(3, length - len(data))
        if not more:
            subprocess.run(["nft", "delete", "table", "inet", TABLE], check=False, capture_output=True)
            sys.exit(0)
        data += more
    return data


def enforce(state: FelixState) -> None:
    message = json.dumps({"snapshot": plain(state.snapshot())})
    words = ["jq", "-r", "--arg", "table", TABLE, "-f", str(SAMPLE.parent / "rules.jq")]
    rules = subprocess.run(words, input=message, capture_output=True, text=True, check=True).stdout
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)


def main() -> None:
    form = sys.argv[1]
    state = FelixState("here", form)  # type: ignore[arg-type]
    while True:
        (length,) = struct.unpack("<Q", read(8))
        state.in_sync = False
        state.take(read(length))
        if state.in_sync:
            enforce(state)
            answer = encode(SCHEMAS[form], FROM_DATAPLANE, {"dataplane_in_sync": {}})  # type: ignore[index]
            os.write(4, struct.pack("<Q", len(answer)) + answer)


main()
