"""The listener's TLS: what the flags make, which of them cannot be used, and certificates that change."""

from __future__ import annotations

import logging
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from tests.support.wire.certificates import Authority
from vmgw_addons.listener.tls import ListenerTLS
from vmgw_addons.support import certificate_end
from vmgw_core.configuration import parse
from vmgw_core.errors import ConfigurationError

Make = Callable[..., ListenerTLS]


@pytest.fixture
def files(authority: Authority, tmp_path: Path) -> tuple[Path, Path]:
    """A certificate and its key, which the test may replace."""
    issued = authority.issue("localhost")
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    shutil.copy(issued.cert, cert)
    shutil.copy(issued.key, key)
    return cert, key


@pytest.fixture
def make(files: tuple[Path, Path]) -> Make:
    def made(**flags: str) -> ListenerTLS:
        given = {"tlsCertFile": str(files[0]), "tlsKeyFile": str(files[1]), **flags}
        return ListenerTLS(parse([f"-{name}={text}" for name, text in given.items()], {}).settings)

    return made


def test_the_flags_choose_version_and_suites(make: Make) -> None:
    assert make().context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert make(tlsMinVersion="TLS13").context.minimum_version is ssl.TLSVersion.TLSv1_3
    chosen = make(tlsCipherSuites="TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,TLS_AES_128_GCM_SHA256").context
    old = {cipher["name"] for cipher in chosen.get_ciphers() if cipher["protocol"] != "TLSv1.3"}
    assert old == {"ECDHE-ECDSA-AES128-GCM-SHA256"}


def test_clients_need_a_certificate_where_mtls_asks_for_one(make: Make, authority: Authority) -> None:
    assert make().context.verify_mode is ssl.CERT_NONE
    assert make(mtlsCAFile=str(authority.cert)).context.verify_mode is ssl.CERT_NONE
    demanding = make(mtls="true", mtlsCAFile=str(authority.cert)).context
    assert demanding.verify_mode is ssl.CERT_REQUIRED
    assert len(demanding.get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"tlsCertFile": ""}, "-tls needs -tlsCertFile and -tlsKeyFile"),
        ({"tlsCertFile": "/none"}, "-tlsCertFile: no such file"),
        ({"tlsMinVersion": "SSL3"}, "-tlsMinVersion: expected one of"),
        ({"tlsCipherSuites": "TLS_NONE"}, "-tlsCipherSuites: no such cipher suite"),
        ({"mtls": "true"}, "-mtls needs -mtlsCAFile"),
    ],
)
def test_a_flag_that_cannot_be_used_is_named(make: Make, flags: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(**flags)


def test_a_key_of_another_certificate_is_refused(make: Make, files: tuple[Path, Path], authority: Authority) -> None:
    shutil.copy(authority.issue("other.test").key, files[1])
    message = f"^-tlsCertFile, -tlsKeyFile: cannot use {files[0]}, {files[1]}: .*key values mismatch"
    with pytest.raises(ConfigurationError, match=f"(?i){message}"):
        make()


def test_a_file_without_authorities_is_refused(make: Make, files: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigurationError, match=f"-mtlsCAFile: cannot use {files[1]}: "):
        make(mtls="true", mtlsCAFile=str(files[1]))


def test_a_changed_certificate_replaces_the_context_and_a_bad_one_does_not(
    make: Make, files: tuple[Path, Path], authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    tls = make()
    first = tls.context
    tls.refresh()
    assert tls.context is first
    files[0].write_text("no certificate")
    tls.refresh()
    assert tls.context is first
    assert "the old certificate stays in use" in caplog.messages[-1]
    issued = authority.issue("localhost")
    shutil.copy(issued.cert, files[0])
    shutil.copy(issued.key, files[1])
    with caplog.at_level(logging.INFO):
        tls.refresh()
    assert tls.context is not first
    assert "reloaded the certificate" in caplog.messages[-1]


def test_an_expired_certificate_is_logged_until_it_is_replaced(
    make: Make, files: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    certificate = x509.load_pem_x509_certificate(files[0].read_bytes())
    end = certificate.not_valid_after_utc.timestamp()
    tls = make()
    assert tls.ends == end
    tls.check_expiry(end - 1)
    assert caplog.messages == []
    for later in (0, 1, 2):
        tls.check_expiry(end + later)
    at = certificate.not_valid_after_utc.isoformat()
    assert caplog.messages == [f"the certificate has expired at {at}: {files[0]}; clients refuse it"]
    with caplog.at_level(logging.INFO):
        tls.check_expiry(end - 1)
    assert caplog.messages[1:] == ["the certificate is valid again"]


def test_the_earliest_certificate_of_a_chain_counts(files: tuple[Path, Path], authority: Authority) -> None:
    own = certificate_end(str(files[0]))
    assert own is not None
    files[0].write_bytes(authority.issue("later.test").cert.read_bytes() + files[0].read_bytes())
    assert certificate_end(str(files[0])) == own
    files[0].write_text("no certificate")
    assert certificate_end(str(files[0])) is None
    files[0].unlink()
    assert certificate_end(str(files[0])) is None
