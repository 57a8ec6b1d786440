"""A certificate authority for the benchmark's own servers, and what has programs trust it.

A server shows a chain as public ones do: its own certificate and one that stands between it and a root, RSA of 2048
bits. The root is added to the authorities of `certifi` in the copy of a program that is measured; nothing else of it is
changed, so that its TLS is what it does everywhere.
"""

import datetime
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from local import ports

BUNDLE = Path("certifi", "cacert.pem")
"""The authorities that a program trusts, below its packages."""


@dataclass(frozen=True, slots=True)
class Authority:
    """The root, in PEM, and a file with a server's key and chain for the loopback address."""

    root: str
    chain: Path
    _folder: "TemporaryDirectory[str]"

    def trusted_by(self, packages: Path) -> None:
        """Have the program with these packages trust it."""
        bundle = packages / BUNDLE
        bundle.chmod(0o644)
        bundle.write_text(f"{bundle.read_text('ascii')}\n{self.root}", "ascii")


@cache
def authority() -> Authority:
    """The one of this process; its files are gone with it."""
    folder = TemporaryDirectory(prefix="bench-authority-")
    keys = [rsa.generate_private_key(public_exponent=65_537, key_size=2_048) for _ in range(3)]
    names = ["root", "intermediate", ports.HOST]
    made = []
    for place, (name, key) in enumerate(zip(names, keys, strict=True)):
        now, above = datetime.datetime.now(datetime.UTC), max(place - 1, 0)
        builder = (
            x509.CertificateBuilder(_name(names[above]), _name(name), key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )
        for extension, critical in _extensions(name, key, keys[above], is_server=place == 2):
            builder = builder.add_extension(extension, critical=critical)
        made.append(builder.sign(keys[above], hashes.SHA256()).public_bytes(Encoding.PEM))
    root, intermediate, server = made
    chain = Path(folder.name, "chain.pem")
    chain.write_bytes(keys[2].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + server + intermediate)
    return Authority(root.decode(), chain, folder)


def _extensions(
    name: str, key: rsa.RSAPrivateKey, above: rsa.RSAPrivateKey, *, is_server: bool
) -> Iterator[tuple[x509.ExtensionType, bool]]:
    """What a certificate says besides, as RFC 5280 wants it; and whether whoever does not know that must refuse it."""
    yield x509.BasicConstraints(ca=not is_server, path_length=None), True
    yield x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False
    yield x509.AuthorityKeyIdentifier.from_issuer_public_key(above.public_key()), False
    uses = dict.fromkeys(_USES, False) | dict.fromkeys(["digital_signature"] if is_server else _AUTHORITIES_USES, True)
    yield x509.KeyUsage(**uses), True
    if is_server:
        yield x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))]), False


_AUTHORITIES_USES = ["key_cert_sign", "crl_sign"]
_USES = [
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *(*_AUTHORITIES_USES, "encipher_only", "decipher_only"),
]


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
