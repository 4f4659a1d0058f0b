"""TLS to backends: the flags, and what is said of files that cannot be used."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from OpenSSL import SSL

from tests.support.wire.certificates import Authority
from vmgw_addons.outgoing.upstream_tls import contexts
from vmgw_core.configuration import parse
from vmgw_core.errors import ConfigurationError

URL = "-read.url=https://vm.example:8428"


def test_the_flags_are_in_force_in_both_lanes(authority: Authority) -> None:
    mine = authority.issue("gateway.example")
    flags = (f"-read.tlsCAFile={authority.cert}", f"-read.tlsCertFile={mine.cert}", f"-read.tlsKeyFile={mine.key}")
    (settings,) = contexts(parse([URL, *flags, "-read.tlsServerName=other.example"], {}).settings).values()
    assert settings.server_name == "other.example"
    assert settings.fast.verify_mode is ssl.CERT_REQUIRED
    assert settings.fast.check_hostname
    assert len(settings.fast.get_ca_certs()) == 1, "the flag's authority, and none of the system's"
    assert settings.context.get_cert_store() is not None
    (settings,) = contexts(parse([URL, "-read.tlsInsecureSkipVerify"], {}).settings).values()
    assert (settings.fast.verify_mode, settings.fast.check_hostname) == (ssl.CERT_NONE, False)
    assert settings.server_name == "vm.example"


def test_variables_of_the_environment_do_not_change_whom_backends_are_trusted_by(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.cert))
    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    monkeypatch.setenv("SSL_CERT_DIR", "/dev/null")
    (settings,) = contexts(parse([URL], {}).settings).values()
    assert settings.fast.get_ca_certs() == []


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        pytest.param(["tlsCAFile=/dev"], "-read.tlsCAFile: cannot (use|read) /dev: ", id="a directory"),
        pytest.param(["tlsCAFile=/missing"], "-read.tlsCAFile: cannot read /missing: No such file", id="no CA"),
        pytest.param(
            ["tlsCAFile=/dev/null"], "-read.tlsCAFile: cannot use /dev/null: no certificate or crl found", id="no PEM"
        ),
        pytest.param(["tlsCertFile={cert}"], "-read.tlsCertFile and -read.tlsKeyFile: set both or none", id="no key"),
        pytest.param(
            ["tlsCertFile={cert}", "tlsKeyFile=/missing"],
            "-read.tlsKeyFile: cannot read /missing: No such file",
            id="key",
        ),
        pytest.param(
            ["tlsCertFile={cert}", "tlsKeyFile={other}"],
            "-read.tlsCertFile, -read.tlsKeyFile: cannot use .*: key values mismatch",
            id="another key",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    authority: Authority, tmp_path: Path, flags: list[str], reason: str
) -> None:
    cert, other = authority.issue("a").cert, Authority(tmp_path).issue("b").key
    given = [f"-read.{flag.format(cert=cert, other=other)}" for flag in flags]
    with pytest.raises(ConfigurationError, match=reason):
        contexts(parse([URL, *given], {}).settings)


def test_only_https_backends_have_a_context() -> None:
    made = contexts(parse([URL, "-write.url=http://vm.example:8480"], {}).settings)
    assert list(made) == [("vm.example", 8428)]


@pytest.mark.parametrize("name", ["db.test", "127.0.0.1", "::1"])
def test_a_connection_starts_as_a_client(name: str) -> None:
    (settings,) = contexts(parse([URL, f"-read.tlsServerName={name}"], {}).settings).values()
    connection = settings.connect()
    with pytest.raises(SSL.WantReadError):
        connection.do_handshake()  # it has something to say, and waits for an answer
    assert (name.encode() in connection.bio_read(4096)) is (name == "db.test"), "SNI names no address"


def test_one_address_is_spoken_to_in_one_way() -> None:
    flags = ["-write.url=https://vm.example:8428/write", "-write.tlsServerName=other.test"]
    with pytest.raises(ConfigurationError, match="same address"):
        contexts(parse([URL, *flags], {}).settings)
