# SPDX-License-Identifier: Apache-2.0
"""Flows files: a YAML or JSON list of flows in, checked against the topology; and flows out again."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import AfterValidator, Field, PlainValidator

from lab.document import Document, Step, document_of, read_documents
from lab.errors import LabError, LabErrors, TopologyError
from lab.protocols import (
    ICMP,
    ICMPV6,
    PORT_PROTOCOLS,
    PROTOCOL_NAMES,
    TCP,
    UDPLITE,
    protocol_label,
    protocol_number,
)
from lab.schema import MAX_ERRORS, StrictModel, listing, raise_all, refusal, suggestion, validate
from lab.topology.flows import FAMILIES, Family, Flow, HttpRequest, IcmpHeader
from lab.topology.model import End, Topology, Workload, address_of

__all__ = ["flow_to_dict", "flows_of", "load_flows", "read_flow"]

_FAMILY_NAMES: dict[Family, str] = {4: "ipv4", 6: "ipv6"}
_FAMILY_NUMBERS = {name: number for number, name in _FAMILY_NAMES.items()}
_FAMILY_OF_PROTOCOL: dict[int, Family] = {ICMP: 4, ICMPV6: 6}
_WITH_PORTS = PORT_PROTOCOLS | {UDPLITE}
_PROTOCOLS_ALLOWED = f"{', '.join(PROTOCOL_NAMES.values())}, or a number from 1 to 255"


def load_flows(path: Path | str, topology: Topology) -> tuple[Flow, ...]:
    """Read a flows file: one Flow for each entry, in the file's order.

    A flow without ``family`` is IPv4 if both ends have that, else IPv6; ICMP and ICMPv6 bring their own.
    Raises TopologyError, or LabErrors with several, for a file that cannot be read, an entry that says what
    cannot be, an end that the topology does not have, and ends without an address in the family.
    """
    documents = read_documents(Path(path), TopologyError)
    if len(documents) != 1:
        found = f"{len(documents)} documents" if documents else "nothing"
        raise TopologyError(f"the file holds {found}", place=str(path), allowed="one list of flows")
    return flows_of(documents[0], topology)


def flows_of(document: Document, topology: Topology) -> tuple[Flow, ...]:
    """Read the flows of a document; raises what ``load_flows`` raises."""
    if not isinstance(document.value, list):
        raise TopologyError("the document is no list", place=document.place(), allowed="a list of flows")
    flows: list[Flow] = []
    errors: list[LabError] = []
    for index in range(len(document.value)):
        try:
            entry = validate(_FlowModel, document, TopologyError, at=(index,))
            flows.append(_Reader(document, (index,), topology).flow(entry))
        except LabErrors as several:
            errors += several.errors
        except TopologyError as error:
            errors.append(error)
        if len(errors) > MAX_ERRORS:
            break
    raise_all(errors)
    return tuple(flows)


def read_flow(entry: Mapping[str, object], topology: Topology, source: str) -> Flow:
    """Read one flow from an entry that stands in no file; errors speak of it as ``source`` ("command line").

    Raises what ``load_flows`` raises.
    """
    document = document_of(dict(entry), source)
    return _Reader(document, (), topology).flow(validate(_FlowModel, document, TopologyError))


def flow_to_dict(flow: Flow) -> dict[str, Any]:
    """Write a flow as an entry of a flows file that reads back as an equal flow."""
    entry: dict[str, Any] = {"from": flow.source, "to": flow.destination, "protocol": protocol_label(flow.protocol)}
    if flow.port is not None:
        entry["port"] = flow.port
    if flow.source_port is not None:
        entry["source_port"] = flow.source_port
    entry["family"] = _FAMILY_NAMES[flow.family]
    if flow.icmp is not None:
        entry["icmp"] = {"type": flow.icmp.type, "code": flow.icmp.code}
    if flow.http is not None:
        entry["http"] = {"method": flow.http.method, "path": flow.http.path}
    return entry


def _number(first: int, last: int, what: str) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        allowed = f"a whole number from {first} to {last}"
        is_digits = isinstance(value, str) and re.fullmatch("[0-9]{1,5}", value) is not None
        if isinstance(value, bool) or not (is_digits or isinstance(value, int)):
            raise refusal(f"is not {what}", allowed=allowed)
        number = int(value)
        if not first <= number <= last:
            raise refusal(f"is not {what}", allowed=allowed)
        return number

    return read


def _protocol(value: Any) -> int:
    if isinstance(value, str) and (number := protocol_number(value)) is not None:
        return number
    try:
        return _number(1, 255, "a protocol")(value)
    except ValueError:
        near = suggestion(value, PROTOCOL_NAMES.values())
        raise refusal("is not a protocol", allowed=_PROTOCOLS_ALLOWED, next_step=near) from None


def _method(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", text) is None:  # a token (RFC 9110, section 5.6.2)
        raise refusal("is not an HTTP method", allowed="a word such as GET")
    return text


def _path(text: str) -> str:
    if re.fullmatch(r"/[\x21-\x22\x24-\x7e]*", text) is None:
        raise refusal("is not an HTTP path", allowed="a path that begins with '/', without blanks and '#'")
    before_query = text.partition("?")[0]
    if re.search(r"%(?![0-9A-Fa-f]{2})|%00", before_query):
        raise refusal("is not escaped rightly", allowed="after each % two hexadecimal digits, not both 0")
    segments = re.split(r"[/\\]", unquote(before_query))
    if ".." in segments and "" in segments[1:-1]:
        raise refusal("is read in two ways, as it has empty segments and '..'", allowed="a path with one of the two")
    return text


_PortNumber = Annotated[int, PlainValidator(_number(1, 65535, "a port"))]
_Byte = Annotated[int, Field(ge=0, le=255)]


class _IcmpModel(StrictModel):
    type: _Byte
    code: _Byte = 0


class _HttpModel(StrictModel):
    method: Annotated[str, AfterValidator(_method)]
    path: Annotated[str, AfterValidator(_path)]


class _FlowModel(StrictModel):
    source: str = Field(alias="from")
    destination: str = Field(alias="to")
    protocol: Annotated[int, PlainValidator(_protocol)]
    port: _PortNumber | None = None
    source_port: _PortNumber | None = None
    family: Literal["ipv4", "ipv6"] | None = None
    icmp: _IcmpModel | None = None
    http: _HttpModel | None = None


@dataclass(frozen=True, slots=True)
class _Reader:
    """Checks one entry against the topology; every method raises TopologyError at the field that is at fault."""

    document: Document
    path: tuple[Step, ...]
    topology: Topology

    def flow(self, entry: _FlowModel) -> Flow:
        source, destination = self._end("from", entry.source), self._end("to", entry.destination)
        self._check_ports(entry)
        self._check_http(entry, destination)
        return Flow(
            source=entry.source,
            destination=entry.destination,
            protocol=entry.protocol,
            port=entry.port,
            family=self._family(entry, source, destination),
            source_port=entry.source_port,
            icmp=self._icmp(entry),
            http=HttpRequest(entry.http.method, entry.http.path) if entry.http else None,
            place=self.document.place(self.path),
        )

    def _end(self, field: str, name: str) -> End:
        end = self.topology.end(name)
        if end is None:
            names = [*(endpoint.name for endpoint in self.topology.endpoints()), *self.topology.nodes]
            what = f"unknown end {name!r}"
            raise self._error(field, what, allowed=listing(names), next_step=suggestion(name, names))
        return end

    def _check_ports(self, entry: _FlowModel) -> None:
        label = protocol_label(entry.protocol)
        if entry.protocol in PORT_PROTOCOLS and entry.port is None:
            raise self._error("protocol", f"a flow of protocol {label} needs a port", next_step="add port: NUMBER")
        for field, port in (("port", entry.port), ("source_port", entry.source_port)):
            if port is not None and entry.protocol not in _WITH_PORTS:
                allowed = (
                    f"no {field} (only {listing([PROTOCOL_NAMES[number] for number in sorted(_WITH_PORTS)])} have)"
                )
                raise self._error(field, f"the protocol {label} has no ports", allowed=allowed)

    def _check_http(self, entry: _FlowModel, destination: End) -> None:
        if entry.http is None:
            return
        if entry.protocol != TCP:
            raise self._error("http", f"HTTP needs TCP, not {protocol_label(entry.protocol)}")
        if entry.http.method == "CONNECT":
            raise self._error("http", "CONNECT asks for a tunnel, and not for a path", allowed="other methods")
        if entry.source_port is not None:
            what = "the source port of an HTTP flow is drawn by the kernel"
            raise self._error("source_port", what, next_step="leave it out, or leave 'http' out")
        if entry.port in self.topology.plain_ports():
            what = f"sidecars look for no HTTP on port {entry.port}: whoever declares it calls it tcp"
            raise self._error("port", what, next_step="give the port another name in the topology")
        if entry.source == entry.destination:
            raise self._error("to", "an HTTP flow from a workload to itself meets no policy", allowed="another end")
        if not isinstance(destination, Workload) or destination.sidecar is None:
            what = f"an HTTP flow needs a sidecar at its destination, and {destination.name} has none"
            raise self._error("http", what, next_step="add sidecar: envoy to the workload")

    def _icmp(self, entry: _FlowModel) -> IcmpHeader | None:
        if entry.icmp is None:
            return None
        if entry.protocol not in _FAMILY_OF_PROTOCOL:
            label = protocol_label(entry.protocol)
            raise self._error("icmp", f"a flow of protocol {label} has no ICMP type", allowed="ICMP, ICMPv6")
        return IcmpHeader(entry.icmp.type, entry.icmp.code)

    def _family(self, entry: _FlowModel, source: End, destination: End) -> Family:
        shared = [family for family in FAMILIES if address_of(source, family) and address_of(destination, family)]
        if entry.family is not None:
            wanted: Family | None = _FAMILY_NUMBERS[entry.family]
        else:
            wanted = _FAMILY_OF_PROTOCOL.get(entry.protocol) or next(iter(shared), None)
        if wanted in shared:
            return wanted
        raise self._no_family(entry, source, destination, wanted)

    def _no_family(self, entry: _FlowModel, source: End, destination: End, wanted: Family | None) -> TopologyError:
        field = "family" if entry.family else "protocol" if wanted else "to"
        if wanted is None:
            return self._error(field, f"{source.name} and {destination.name} have no address family in common")
        without = destination if address_of(source, wanted) else source
        return self._error(field, f"{without.name} has no {_FAMILY_NAMES[wanted]} address")

    def _error(
        self, field: str, what: str, *, allowed: str | None = None, next_step: str | None = None
    ) -> TopologyError:
        place = self.document.place((*self.path, field))
        return TopologyError(what, place=place, allowed=allowed, next_step=next_step)
