"""The TLS certificates of workers and of the machines that may use them: made by one command, read as TLS contexts.

A small certificate authority of their own signs both sides. Its key is thrown away: nobody can add a certificate later.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_config_path

from surgicalsam_napari.errors import WorkerRefused

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate

AUTHORITY, WORKER, CLIENT = "ca.pem", "worker.pem", "client.pem"
VALID_DAYS = 730
_EARLIER = timedelta(hours=1)  # clocks of two machines differ


def default_certificates() -> Path:
    """Where a machine looks for its certificates if none are named: certificates/ in the user's folder for configuration."""
    return user_config_path("surgicalsam-napari", appauthor=False) / "certificates"


def find_certificates(folder: Path | None, file_name: str) -> Path | None:
    """The folder that holds this file and the authority's: the given one, or its part for this side; None if neither does.

    Parameters
    ----------
    folder : by default that of `default_certificates`
    file_name : WORKER or CLIENT
    """
    folder = default_certificates() if folder is None else folder.expanduser()
    for place in (folder, folder / Path(file_name).stem):
        if (place / file_name).is_file() and (place / AUTHORITY).is_file():
            return place
    return None


def worker_context(folder: Path) -> ssl.SSLContext:
    """TLS 1.3 for a worker; it accepts only clients with a certificate of the same authority."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, folder, WORKER)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(folder: Path) -> ssl.SSLContext:
    """TLS 1.3 for a machine that uses a worker; it accepts only a worker with a certificate of the same authority."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, folder, CLIENT)


def _context(side: int, folder: Path, file_name: str) -> ssl.SSLContext:
    found = find_certificates(folder, file_name)
    if found is None:
        raise WorkerRefused(
            f"{folder} should hold {AUTHORITY} and {file_name}; it does not. "
            "Make certificates on the machine of the worker with `surgicalsam worker --make-certificates FOLDER`."
        )
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(found / AUTHORITY)
        context.load_cert_chain(found / file_name)
    except (OSError, ssl.SSLError) as error:
        raise WorkerRefused(
            f"The certificates in {found} cannot be used ({error}). Copy them again, or make new ones with "
            "`surgicalsam worker --make-certificates FOLDER`."
        ) from error
    return context


def make_certificates(folder: Path, names: Sequence[str] = ()) -> tuple[Path, Path]:
    """Make the certificates of one worker and of the machines that may use it, in two parts of a folder.

    Parameters
    ----------
    names : host names and IP addresses under which clients reach this machine; its own names are included

    Returns
    -------
    the part for the worker, which stays here, and the part to copy to the other machines

    Raises
    ------
    WorkerRefused
        the library cryptography is not installed, or the folder holds certificates, or cannot be written
    """
    folder = folder.expanduser()
    parts = folder / Path(WORKER).stem, folder / Path(CLIENT).stem
    if any(part.exists() for part in parts):
        raise WorkerRefused(
            f"{folder} holds certificates already, and they stay as they are. Choose a new folder, or remove this one "
            "first: machines with the old certificates can then no longer connect."
        )
    all_names = list(dict.fromkeys([*names, socket.gethostname(), socket.getfqdn(), "localhost", "127.0.0.1", "::1"]))
    authority, key = _authority(all_names[0])
    try:
        for part, is_worker in zip(parts, (True, False), strict=True):
            part.mkdir(parents=True)
            _write(part / AUTHORITY, _pem(authority))
            _write(part / (WORKER if is_worker else CLIENT), _signed(authority, key, all_names, is_worker), is_secret=True)
    except OSError as error:
        raise WorkerRefused(f"{folder} cannot be written ({error.strerror}). Choose another folder.") from error
    return parts


def _authority(name: str) -> tuple[Certificate, EllipticCurvePrivateKey]:
    x509, ec = _cryptography()
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(f"SurgicalSAM authority of {name}")
    usage = {"key_cert_sign": True, "crl_sign": True}
    builder = _builder(subject, subject, key.public_key(), key)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return _sign(builder.add_extension(_key_usage(**usage), critical=True), key), key


def _signed(authority: Certificate, key: EllipticCurvePrivateKey, names: Sequence[str], is_worker: bool) -> bytes:
    """A new key and its certificate in PEM, for one purpose only: a client's does not make its owner a worker."""
    x509, ec = _cryptography()
    from cryptography.hazmat.primitives import serialization

    own_key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(f"SurgicalSAM {'worker' if is_worker else 'client'} of {names[0]}")
    builder = _builder(subject, authority.subject, own_key.public_key(), key)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(digital_signature=True), critical=True)
    purpose = x509.ExtendedKeyUsageOID.SERVER_AUTH if is_worker else x509.ExtendedKeyUsageOID.CLIENT_AUTH
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
    if is_worker:
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    secret = own_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return secret + _pem(_sign(builder, key))


def _builder(subject: Any, issuer: Any, public_key: Any, issuer_key: EllipticCurvePrivateKey) -> Any:
    x509, _ec = _cryptography()
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - _EARLIER).not_valid_after(now + timedelta(days=VALID_DAYS))
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return builder.add_extension(authority_id, critical=False)


def _sign(builder: Any, key: EllipticCurvePrivateKey) -> Certificate:
    from cryptography.hazmat.primitives.hashes import SHA256

    return builder.sign(key, SHA256())


def _key_usage(**chosen: bool) -> Any:
    x509, _ec = _cryptography()
    every = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign "
        "encipher_only decipher_only"
    )
    return x509.KeyUsage(**(dict.fromkeys(every.split(), False) | chosen))


def _subject(name: str) -> Any:
    x509, _ec = _cryptography()
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name[:64])])


def _general_name(name: str) -> Any:
    x509, _ec = _cryptography()
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _write(path: Path, content: bytes, *, is_secret: bool = False) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if is_secret else 0o644)
    with open(descriptor, "wb") as file:
        file.write(content)


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise WorkerRefused(
            "Making certificates needs the library cryptography, which is not installed. "
            'Run: pip install "surgicalsam-napari[cluster]".'
        ) from error
    import cryptography.x509.oid  # noqa: F401

    return x509, ec
