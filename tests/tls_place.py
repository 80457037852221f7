"""TLS for a server under names of one's choice, as its client asks for them. Needs ``openssl``."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class TlsPlace:
    """A certificate that is its own authority, and what clients asked it for.

    Attributes:
        ca_path: The file to trust it by.
        server: What a server wraps its sockets in.
        names_asked: The server names in the clients' greetings.
    """

    ca_path: Path
    server: ssl.SSLContext
    names_asked: list[str | None] = field(default_factory=list)


def make_tls_place(folder: Path, name: str) -> TlsPlace:
    """A certificate for this host name, and for no address."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate of this test, and is not installed")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    of_what = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    uses = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,digitalSignature,keyCertSign")
    added = [one for use in (f"subjectAltName=DNS:{name}", *uses) for one in ("-addext", use)]
    where = ["-subj", f"/CN={name}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(
        [openssl, "req", *of_what.split(), *added, *where], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    place = TlsPlace(certificate, context)

    def note(_socket: object, asked: str | None, _context: object) -> None:
        place.names_asked.append(asked)

    context.sni_callback = note
    return place
