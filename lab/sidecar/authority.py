# SPDX-License-Identifier: Apache-2.0
"""The lab's own certificate authority: it lives in memory, and tells who a workload is by its service account."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from lab.topology import Workload

if TYPE_CHECKING:
    from cryptography.x509 import CertificateBuilder

__all__ = ["Authority", "Credentials", "identity_of"]

TRUST_DOMAIN: Final = "policylab"
DEFAULT_ACCOUNT: Final = "default"
_LIFE: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a sidecar shows its peers and holds against them; all in PEM."""

    certificate: str
    key: str
    authority: str


def identity_of(workload: Workload) -> str:
    """Who a workload is: the SPIFFE id of its service account, as Istio writes it."""
    account = workload.service_account or DEFAULT_ACCOUNT
    return f"spiffe://{TRUST_DOMAIN}/ns/{workload.namespace}/sa/{account}"


class Authority:
    """Issues certificates; nobody but the sidecars of one lab trusts it, and its key is never written down."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509 import BasicConstraints

        self._key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder("policylab authority", "policylab authority").public_key(self._key.public_key())
        builder = builder.add_extension(BasicConstraints(ca=True, path_length=0), critical=True)
        self._certificate = self._sign(builder)

    def issue(self, identity: str) -> Credentials:
        """A new key, and a certificate that says whose it is."""
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
        from cryptography.x509 import SubjectAlternativeName, UniformResourceIdentifier

        key = ec.generate_private_key(ec.SECP256R1())
        names = SubjectAlternativeName([UniformResourceIdentifier(identity)])
        builder = _builder("policylab sidecar", "policylab authority").public_key(key.public_key())
        certificate = self._sign(builder.add_extension(names, critical=True))
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        return Credentials(certificate, text, self._certificate)

    def _sign(self, builder: CertificateBuilder) -> str:
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import Encoding

        return builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM).decode()


def _builder(subject: str, issuer: str) -> CertificateBuilder:
    from cryptography.x509 import CertificateBuilder, Name, NameAttribute, random_serial_number
    from cryptography.x509.oid import NameOID

    now = datetime.now(UTC)
    builder = CertificateBuilder().serial_number(random_serial_number())
    builder = builder.subject_name(Name([NameAttribute(NameOID.COMMON_NAME, subject)]))
    builder = builder.issuer_name(Name([NameAttribute(NameOID.COMMON_NAME, issuer)]))
    return builder.not_valid_before(now - _LIFE).not_valid_after(now + _LIFE)
