"""discovery: what is fetched when, and that no failure of an endpoint ever costs a good key."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core import keys
from tests.support.core.keys import NOW
from tests.support.each import each
from vmgw_core.errors import ConfigurationError, TokenRefused, UnknownKey
from vmgw_core.tokens.keyring import LOST_AFTER, Fetch, KeyRing, SourceStatus
from vmgw_core.tokens.keys import MAX_DOCUMENT_BYTES, KeySet, keys_from_pem
from vmgw_core.tokens.verifier import TokenVerifier

_JWKS = "https://keys.example/jwks"
_OIDC = "https://issuer.example/realms/metrics/.well-known/openid-configuration"
_REFRESH, _RETRY, _PAUSE = 300, 10, 10

_ONE = keys.jwk(keys.ec_key("P-256", "one"), kid="one")
_TWO = keys.jwk(keys.ec_key("P-256", "two"), kid="two")


def _ring(**arguments: object) -> KeyRing:
    return KeyRing(**{"jwks_endpoints": [_JWKS], **arguments})  # type: ignore[arg-type]


def _discovery(**members: object) -> bytes:
    return json.dumps({"issuer": keys.ISSUER, "jwks_uri": _JWKS, **members}).encode()


def _only(fetches: tuple[Fetch, ...]) -> Fetch:
    (fetch,) = fetches
    return fetch


def _deliver(ring: KeyRing, document: bytes, now: float) -> None:
    ring.received(_only(ring.due(now)), document, now)


def _kids(ring: KeyRing) -> list[str | None]:
    assert ring.keyset is not None
    return [key.kid for key in ring.keyset.keys]


def _waiting(ring: KeyRing) -> bool:
    return ring.waiting


def _state(ring: KeyRing) -> SourceStatus:
    (status,) = ring.status()
    return status


# --- configuration -------------------------------------------------------------------------------------------------


def test_nothing_configured_is_no_verification() -> None:
    ring = KeyRing()
    assert ring.keyset is None
    assert not _waiting(ring)
    assert ring.due(NOW) == ()
    assert ring.next_due(NOW) is None
    assert ring.status() == ()
    ring.unknown_key(NOW)
    assert ring.next_due(NOW) is None


def test_static_keys_alone() -> None:
    static = keys_from_pem(keys.pem(keys.ec_key()), "pem")
    ring = KeyRing(static=static)
    assert ring.keyset == KeySet(static)
    assert not _waiting(ring)
    assert ring.next_due(NOW) is None
    assert ring.generation == 0


def test_static_keys_stay_beside_fetched_ones() -> None:
    static = keys_from_pem(keys.pem(keys.ec_key()), "pem")
    ring = _ring(static=static)
    assert not _waiting(ring)
    _deliver(ring, keys.jwks(_ONE), NOW)
    assert _kids(ring) == [None, "one"]
    _deliver(ring, keys.jwks(_TWO), NOW + _REFRESH)
    assert _kids(ring) == [None, "two"]


def test_static_keys_are_replaced_and_fetched_ones_stay() -> None:
    first, second = (keys_from_pem(keys.pem(keys.ec_key("P-256", name)), "pem") for name in ("first", "second"))
    ring = _ring(static=first)
    _deliver(ring, keys.jwks(_ONE), NOW)
    assert ring.generation == 1
    ring.replace_static(list(first))
    assert ring.generation == 1, "the same keys read anew"
    ring.replace_static(second)
    assert ring.generation == 2
    assert ring.keyset is not None
    assert ring.keyset.keys[0].thumbprint == second[0].thumbprint
    assert _kids(ring) == [None, "one"]
    assert ring.next_due(NOW) == _REFRESH


def test_taking_all_keys_away_does_not_turn_verification_off() -> None:
    static = keys_from_pem(keys.pem(keys.ec_key()), "pem")
    ring = KeyRing(static=static)
    ring.replace_static(())
    assert ring.keyset == KeySet(())
    ring = KeyRing()
    ring.replace_static(())
    assert ring.keyset is None
    ring.replace_static(static)
    assert ring.keyset == KeySet(static)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        pytest.param("https://a.example", "https://a.example", id="host only"),
        pytest.param("http://127.0.0.1:8080/keys", "http://127.0.0.1:8080/keys", id="http, port"),
        pytest.param("https://[::1]:1/k", "https://[::1]:1/k", id="IPv6"),
        pytest.param("HTTPS://A.example/K", "https://A.example/K", id="scheme in capitals"),
        pytest.param("https://user:hunter2@a.example/k", "https://a.example/k", id="credentials"),
        pytest.param("https://a.example/k?api_key=hunter2#f", "https://a.example/k", id="query"),
    ],
)
def test_url_accepts(url: str, shown: str) -> None:
    ring = KeyRing(jwks_endpoints=[url])
    assert _state(ring).url == shown
    fetch = _only(ring.due(NOW))
    assert fetch.url == url
    assert "hunter2" not in repr((fetch, ring.status()))


@pytest.mark.parametrize(
    ("url", "reason", "shown"),
    [
        pytest.param(_JWKS, f"GET {_JWKS}: timed out", f"GET {_JWKS}: timed out", id="nothing secret"),
        pytest.param(_JWKS, "line\r\nbreak\x00\x9b", "line\\r\\nbreak\\x00\\x9b", id="one line"),
        pytest.param(
            "https://u:pw@a.example/k", "GET https://u:pw@a.example/k", "GET https://***@a.example/k", id="URL"
        ),
        pytest.param("https://u:pw@a.example/k", "password pw is wrong", "password *** is wrong", id="password alone"),
        pytest.param("https://a.example/k?t=1&u=2", "for url: /k?t=1&u=2", "for url: /k?***", id="query"),
    ],
)
def test_an_error_is_shown_in_one_line_without_secrets(url: str, reason: str, shown: str) -> None:
    ring = KeyRing(jwks_endpoints=[url])
    ring.failed(_only(ring.due(NOW)), reason, NOW)
    assert _state(ring).last_error == shown


@each(
    "url",
    [
        *("", "a.example", "//a.example/k", "https://", "https:///k", "https://:443/k", "https://user@/k"),
        *(
            "ftp://a.example/k",
            "file:///etc/passwd",
            "https:/a.example",
            "https://a.example:x/",
            "https://a.example:0/",
        ),
        *("https://a.example:65536/", "https://[::1/k", "https://a.example/a b", " https://a.example/"),
        *("https://a.example/\n", "https://a.example/\x00", "https://a.example\\@evil.example/"),
    ],
    ids=repr,
)
def test_url_rejects(url: str) -> None:
    for name, arguments in (
        ("-auth.jwksEndpoints[1]", {"jwks_endpoints": [_JWKS, url]}),
        ("-auth.oidcDiscoveryEndpoints[0]", {"oidc_endpoints": [url]}),
    ):
        with pytest.raises(ConfigurationError) as error:
            KeyRing(**arguments)  # type: ignore[arg-type]
        assert str(error.value) == f"{name}: expected an http or https URL with a host"


@each("name", ["refresh_interval", "retry_interval", "unknown_key_interval"])
@each("interval", [0, -1, float("inf"), float("nan")])
def test_interval_rejects(name: str, interval: float) -> None:
    with pytest.raises(ConfigurationError, match="longer than 0 seconds"):
        _ring(**{name: interval})


# --- one JWKS endpoint ---------------------------------------------------------------------------------------------


def test_a_refresh() -> None:
    ring = _ring()
    assert _waiting(ring)
    assert ring.keyset == KeySet(())
    assert ring.next_due(NOW) == 0
    fetch = _only(ring.due(NOW))
    assert (fetch.url, fetch.source) == (_JWKS, "-auth.jwksEndpoints[0]")
    assert ring.due(NOW) == (), "it is under way"
    assert ring.due(NOW + 60) == (), "and still is"
    ring.received(fetch, keys.jwks(_ONE, _TWO), NOW + 1)
    assert not _waiting(ring)
    assert _kids(ring) == ["one", "two"]
    assert ring.generation == 1
    assert ring.next_due(NOW + 1) == _REFRESH
    assert ring.due(NOW + _REFRESH) == ()
    assert _only(ring.due(NOW + 1 + _REFRESH)).url == _JWKS


def test_keys_say_where_they_are_from() -> None:
    ring = _ring(jwks_endpoints=["https://user:hunter2@keys.example/jwks?k=hunter2"])
    _deliver(ring, keys.jwks(_ONE), NOW)
    assert ring.keyset is not None
    assert ring.keyset.keys[0].source == "-auth.jwksEndpoints[0] https://keys.example/jwks"
    assert ring.keyset.keys[0].issuer is None


def test_rotation_replaces_the_keys() -> None:
    ring = _ring()
    _deliver(ring, keys.jwks(_ONE), NOW)
    _deliver(ring, keys.jwks(_ONE, _TWO), NOW + _REFRESH)
    assert (_kids(ring), ring.generation) == (["one", "two"], 2)
    _deliver(ring, keys.jwks(_TWO), NOW + 2 * _REFRESH)
    assert (_kids(ring), ring.generation) == (["two"], 3)


@pytest.mark.parametrize(
    ("document", "changed"),
    [
        pytest.param(keys.jwks(_ONE, _TWO), False, id="the same"),
        pytest.param(keys.jwks(_TWO, _ONE), False, id="another order"),
        pytest.param(keys.jwks(_ONE, _TWO, _ONE), False, id="one of them twice"),
        pytest.param(keys.jwks({**_ONE, "x5t": "new"}, _TWO), False, id="a member that is not read"),
        pytest.param(keys.jwks(_ONE), True, id="one less"),
        pytest.param(keys.jwks({**_ONE, "kid": "three"}, _TWO), True, id="another kid"),
        pytest.param(keys.jwks({**_TWO, "kid": "one"}, _TWO), True, id="another key under the kid"),
    ],
)
def test_generation_grows_only_with_a_change(document: bytes, changed: bool) -> None:
    ring = _ring()
    _deliver(ring, keys.jwks(_ONE, _TWO), NOW)
    before = ring.keyset
    _deliver(ring, document, NOW + _REFRESH)
    assert ring.generation == 1 + changed
    assert (ring.keyset is before) is not changed


def test_an_algorithm_is_a_change() -> None:
    ring = _ring()
    _deliver(ring, keys.jwks(keys.jwk(keys.rsa_key(), kid="r")), NOW)
    _deliver(ring, keys.jwks(keys.jwk(keys.rsa_key(), kid="r", alg="PS256")), NOW + _REFRESH)
    assert ring.generation == 2


_BAD = keys.jwk(keys.rsa_key(), kid="enc", use="enc")
_SKIPPED = 'keys[0] (kid "enc", kty "RSA", use "enc"): its use is not sig'
_ALL_BAD = f"no usable key: {_SKIPPED}; keys[1]: key: expected an object, got null"


@each(
    ("document", "error"),
    [
        pytest.param(b"", "JWK Set: not valid JSON (line 1, column 1)", id="empty"),
        pytest.param(b"<html>502</html>", "JWK Set: not valid JSON (line 1, column 1)", id="HTML"),
        pytest.param(b"{}", "keys: missing", id="no JWK Set"),
        pytest.param(b'{"error":"internal"}', "keys: missing", id="an error document"),
        pytest.param(b'{"keys":[]}', "no usable key: the set is empty", id="an empty set"),
        pytest.param(keys.jwks(_BAD, None), _ALL_BAD, id="all bad"),
        pytest.param(b" " * (MAX_DOCUMENT_BYTES + 1), "the JWK Set is larger than 1048576 bytes", id="too long"),
        pytest.param(None, "connection refused", id="an outage"),
    ],
)
def test_a_failure_never_drops_good_keys(document: bytes | None, error: str) -> None:
    ring = _ring()
    _deliver(ring, keys.jwks(_ONE), NOW)
    now: float = NOW + _REFRESH
    for _ in range(3):
        fetch = _only(ring.due(now))
        if document is None:
            ring.failed(fetch, "connection refused", now)
        else:
            ring.received(fetch, document, now)
        assert _kids(ring) == ["one"]
        assert ring.generation == 1
        assert (_state(ring).keys, _state(ring).last_success, _state(ring).last_error) == (1, NOW, error)
        assert ring.next_due(now) == _RETRY
        assert ring.due(now + _RETRY - 1) == ()
        now += _RETRY
    _deliver(ring, keys.jwks(_TWO), now)
    assert _kids(ring) == ["two"]
    assert (_state(ring).last_success, _state(ring).last_error) == (now, None)


def test_one_bad_key_does_not_drop_good_ones() -> None:
    ring = _ring()
    _deliver(ring, keys.jwks(_BAD, _ONE, "x", _TWO), NOW)
    assert _kids(ring) == ["one", "two"]
    assert _state(ring) == SourceStatus(
        name="-auth.jwksEndpoints[0]",
        url=_JWKS,
        keys=2,
        issuer=None,
        last_success=NOW,
        last_error=None,
        skipped=(_SKIPPED, "keys[2]: key: expected an object, got a string"),
    )
    _deliver(ring, keys.jwks(_BAD), NOW + _REFRESH)
    assert _kids(ring) == ["one", "two"]
    assert _state(ring).skipped == (_SKIPPED,)
    _deliver(ring, keys.jwks(_ONE), NOW + _REFRESH + _RETRY)
    assert _state(ring).skipped == ()


def test_an_outage_at_the_start() -> None:
    ring = _ring()
    ring.failed(_only(ring.due(NOW)), "x" * 3000, NOW)
    assert _waiting(ring)
    assert ring.keyset == KeySet(())
    assert len(str(_state(ring).last_error)) == 2001
    _deliver(ring, keys.jwks(_ONE), NOW + _RETRY)
    assert not _waiting(ring)


def test_endpoints_are_on_their_own() -> None:
    ring = _ring(jwks_endpoints=[_JWKS, "https://other.example/jwks"])
    first, second = ring.due(NOW)
    ring.received(second, keys.jwks(_TWO), NOW)
    assert _kids(ring) == ["two"]
    ring.failed(first, "down", NOW)
    assert ring.next_due(NOW) == _RETRY
    assert _kids(ring) == ["two"]
    first = _only(ring.due(NOW + _RETRY))
    ring.received(first, keys.jwks(_ONE), NOW + _RETRY)
    assert _kids(ring) == ["one", "two"]
    assert [status.keys for status in ring.status()] == [1, 1]


# --- outcomes that nobody awaits -----------------------------------------------------------------------------------


def test_a_late_or_foreign_outcome_is_ignored() -> None:
    ring = _ring()
    first = _only(ring.due(NOW))
    ring.failed(first, "timeout", NOW)
    ring.received(first, keys.jwks(_ONE), NOW)
    assert _waiting(ring)
    second = _only(ring.due(NOW + _RETRY))
    ring.received(first, keys.jwks(_ONE), NOW + _RETRY)
    ring.failed(first, "late", NOW + _RETRY)
    assert _waiting(ring)
    assert ring.due(NOW + _RETRY) == ()
    ring.received(second, keys.jwks(_TWO), NOW + _RETRY)
    ring.received(second, keys.jwks(_ONE), NOW + _RETRY)
    ring.received(Fetch(url=_JWKS, source="-auth.jwksEndpoints[7]"), keys.jwks(_ONE), NOW)
    assert _kids(ring) == ["two"]
    assert _state(ring).last_error is None


def test_a_fetch_without_outcome_does_not_end_refreshing() -> None:
    ring = _ring()
    lost = _only(ring.due(NOW))
    assert ring.next_due(NOW) == LOST_AFTER
    assert ring.due(NOW + LOST_AFTER - 1) == ()
    fetch = _only(ring.due(NOW + LOST_AFTER))
    assert _state(ring).last_error == "the fetch did not end"
    ring.received(lost, keys.jwks(_ONE), NOW + LOST_AFTER)
    assert _waiting(ring), "it counts as lost"
    ring.received(fetch, keys.jwks(_TWO), NOW + LOST_AFTER)
    assert _kids(ring) == ["two"]


# --- unknown keys --------------------------------------------------------------------------------------------------


def test_an_unknown_key_brings_the_refresh_forward() -> None:
    ring = _ring()
    _deliver(ring, keys.jwks(_ONE), NOW)
    ring.unknown_key(NOW + 100)
    assert ring.next_due(NOW + 100) == 0
    _deliver(ring, keys.jwks(_ONE, _TWO), NOW + 100)
    assert _kids(ring) == ["one", "two"]
    assert ring.next_due(NOW + 100) == _REFRESH


def test_an_unknown_key_soon_after_another_is_not_forgotten() -> None:
    ring = _ring()
    ring.unknown_key(NOW)
    _deliver(ring, keys.jwks(_ONE), NOW)
    ring.unknown_key(NOW + 1)
    assert ring.next_due(NOW + 1) == _PAUSE - 1
    assert ring.due(NOW + _PAUSE - 1) == ()
    assert len(ring.due(NOW + _PAUSE)) == 1


def test_an_unknown_key_right_after_a_refresh_that_no_token_wanted_brings_the_next_at_once() -> None:
    ring = _ring()
    _deliver(ring, keys.jwks(_ONE), NOW)
    ring.unknown_key(NOW + 1)
    _deliver(ring, keys.jwks(_TWO), NOW + 1)
    ring.unknown_key(NOW + 2)
    assert ring.next_due(NOW + 2) == _PAUSE - 1


def test_an_unknown_key_never_puts_a_refresh_off() -> None:
    ring = _ring(unknown_key_interval=1000)
    ring.unknown_key(NOW)
    _deliver(ring, keys.jwks(_ONE), NOW)
    ring.unknown_key(NOW + 1)
    assert ring.next_due(NOW + 1) == _REFRESH - 1
    ring.failed(_only(ring.due(NOW + _REFRESH)), "down", NOW + _REFRESH)
    ring.unknown_key(NOW + _REFRESH + 1)
    assert ring.next_due(NOW + _REFRESH + 1) == _RETRY - 1


def test_an_unknown_key_while_a_fetch_is_under_way_makes_no_other() -> None:
    ring = _ring()
    fetch = _only(ring.due(NOW))
    ring.unknown_key(NOW)
    assert ring.due(NOW) == ()
    ring.received(fetch, keys.jwks(_ONE), NOW)
    assert ring.next_due(NOW) == _REFRESH


@pytest.mark.parametrize("outcome", ["good", "down"])
def test_a_flood_of_unknown_keys_costs_one_refresh_an_interval(outcome: str) -> None:
    other, uri = "https://other.example/jwks", "https://issuer.example/keys"
    ring = _ring(jwks_endpoints=[_JWKS, other], oidc_endpoints=[_OIDC], retry_interval=60)
    starts: dict[str, list[float]] = {_JWKS: [], other: [], _OIDC: [], uri: []}
    for tenth in range(600):
        now = NOW + tenth / 10
        for _ in range(5):
            ring.unknown_key(now)
        for fetch in ring.due(now):
            starts[fetch.url].append(now)
            if fetch.url == _OIDC:
                ring.received(fetch, _discovery(jwks_uri=uri), now)
            elif outcome == "good":
                ring.received(fetch, keys.jwks(_ONE), now)
            else:
                ring.failed(fetch, "down", now)
    for times in starts.values():
        assert len(times) == 6
        assert all(later - earlier >= _PAUSE for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize("retry", [_PAUSE, 3])
def test_a_flood_that_follows_planned_fetches_costs_one_more(retry: float) -> None:
    ring, starts = _ring(retry_interval=retry), 0
    ring.failed(_only(ring.due(NOW)), "down", NOW)
    for tenth in range(1, 600):
        now = NOW + tenth / 10
        ring.unknown_key(now)
        for fetch in ring.due(now):
            starts += 1
            ring.failed(fetch, "down", now)
    assert starts == (6 if retry == _PAUSE else 20)  # those that the outage itself plans, and no more


# --- the clock -----------------------------------------------------------------------------------------------------


@each(
    ("prepare", "at_most"),
    [
        pytest.param(lambda ring: _deliver(ring, keys.jwks(_ONE), NOW), _REFRESH, id="after a success"),
        pytest.param(lambda ring: ring.failed(_only(ring.due(NOW)), "down", NOW), _RETRY, id="after a failure"),
        pytest.param(lambda ring: ring.due(NOW), LOST_AFTER, id="under way"),
    ],
)
@each("back", [1, 86400, NOW, 10 * NOW])
def test_a_clock_that_is_set_back_does_not_end_refreshing(
    prepare: Callable[[KeyRing], object], at_most: float, back: float
) -> None:
    ring = _ring()
    prepare(ring)
    now = NOW - back
    wait = ring.next_due(now)
    assert wait == at_most
    assert ring.due(now + at_most - 1) == ()
    assert len(ring.due(now + at_most)) == 1


def test_a_clock_that_is_set_back_does_not_end_early_refreshes() -> None:
    ring = _ring()
    ring.unknown_key(NOW)
    _deliver(ring, keys.jwks(_ONE), NOW)
    ring.unknown_key(NOW - 86400)
    assert ring.next_due(NOW - 86400) == _PAUSE
    # And one that jumps to and fro gives no more than one refresh in each interval.
    ring.unknown_key(NOW - 86400 - 1)
    assert ring.next_due(NOW - 86400 - 1) == _PAUSE


# --- OpenID Connect discovery --------------------------------------------------------------------------------------


def _oidc_ring(url: str = _OIDC) -> KeyRing:
    return KeyRing(oidc_endpoints=[url])


def _refresh_oidc(ring: KeyRing, discovery: bytes, jwks: bytes, now: float) -> None:
    _deliver(ring, discovery, now)
    _deliver(ring, jwks, now)


def test_discovery_has_two_steps() -> None:
    ring = _oidc_ring()
    fetch = _only(ring.due(NOW))
    assert (fetch.url, fetch.source) == (_OIDC, "-auth.oidcDiscoveryEndpoints[0]")
    ring.received(fetch, _discovery(jwks_uri="https://elsewhere.example/k"), NOW)
    assert _waiting(ring)
    assert ring.next_due(NOW) == 0
    fetch = _only(ring.due(NOW))
    assert fetch.url == "https://elsewhere.example/k"
    assert ring.due(NOW) == ()
    ring.received(fetch, keys.jwks(_ONE), NOW)
    assert _kids(ring) == ["one"]
    assert ring.next_due(NOW) == _REFRESH
    assert _state(ring) == SourceStatus(
        name="-auth.oidcDiscoveryEndpoints[0]",
        url=_OIDC,
        keys=1,
        issuer=keys.ISSUER,
        last_success=NOW,
        last_error=None,
        skipped=(),
    )
    assert _only(ring.due(NOW + _REFRESH)).url == _OIDC, "each refresh begins with the discovery document"


def _accepts(ring: KeyRing, issuer: object) -> bool:
    token = keys.sign(keys.claims(iss=issuer), keys.ec_key("P-256", "one"), {"alg": "ES256", "kid": "one"})
    try:
        TokenVerifier(ring.keyset).verify(token, NOW)
    except UnknownKey:
        return False
    return True


def test_keys_of_an_issuer_verify_only_its_tokens() -> None:
    ring = _oidc_ring()
    _refresh_oidc(ring, _discovery(), keys.jwks(_ONE), NOW)
    assert _accepts(ring, keys.ISSUER)
    for issuer in (keys.ISSUER + "/", keys.ISSUER + ".evil.example", keys.ISSUER[:-1], "x" + keys.ISSUER, "", None):
        assert not _accepts(ring, issuer)


def test_a_templated_issuer() -> None:
    ring = _oidc_ring("https://login.microsoftonline.com/common/v2.0/.well-known/openid-configuration")
    issuer = "https://login.microsoftonline.com/{tenantid}/v2.0"
    _refresh_oidc(ring, _discovery(issuer=issuer), keys.jwks(_ONE), NOW)
    assert _accepts(ring, "https://login.microsoftonline.com/7f0c/v2.0")
    for wrong in ("7f0c/x", "", "/"):
        assert not _accepts(ring, f"https://login.microsoftonline.com/{wrong}/v2.0")
    assert not _accepts(ring, "https://login.microsoftonline.com.evil.example/7f0c/v2.0")


def test_one_issuer_cannot_speak_for_another() -> None:
    """Two endpoints serve the same kid; each key still is its own issuer's."""
    ring = KeyRing(oidc_endpoints=[_OIDC, "https://evil.example/.well-known/openid-configuration"])
    for fetch, issuer in zip(ring.due(NOW), (keys.ISSUER, "https://evil.example"), strict=True):
        ring.received(fetch, _discovery(issuer=issuer), NOW)
    for fetch, jwk in zip(ring.due(NOW), ({**_TWO, "kid": "one"}, _ONE), strict=True):
        ring.received(fetch, keys.jwks(jwk), NOW)
    assert _accepts(ring, "https://evil.example")
    token = keys.sign(keys.claims(iss=keys.ISSUER), keys.ec_key("P-256", "one"), {"alg": "ES256", "kid": "one"})
    with pytest.raises(TokenRefused) as error:
        TokenVerifier(ring.keyset).verify(token, NOW)
    assert error.value.code == "bad_signature"


def test_a_new_issuer_is_a_change() -> None:
    ring = _oidc_ring()
    _refresh_oidc(ring, _discovery(), keys.jwks(_ONE), NOW)
    _refresh_oidc(ring, _discovery(), keys.jwks(_ONE), NOW + _REFRESH)
    assert ring.generation == 1
    _refresh_oidc(ring, _discovery(issuer="https://new.example"), keys.jwks(_ONE), NOW + 2 * _REFRESH)
    assert ring.generation == 2
    assert _state(ring).issuer == "https://new.example"
    assert not _accepts(ring, keys.ISSUER)


_URI = "expected an issuer, and an http or https URL as jwks_uri"


@each(
    ("document", "error"),
    [
        pytest.param(b"", "discovery document: not valid JSON (line 1, column 1)", id="empty"),
        pytest.param(b"[]", "discovery document: expected an object, got a list", id="list"),
        pytest.param(b"{}", "issuer: missing", id="no issuer"),
        pytest.param(_discovery(issuer=None), "issuer: expected a string, got null", id="issuer null"),
        pytest.param(_discovery(issuer=""), _URI, id="issuer empty"),
        pytest.param(b'{"issuer":"x"}', "jwks_uri: missing", id="no jwks_uri"),
        pytest.param(_discovery(jwks_uri=7), "jwks_uri: expected a string, got an integer", id="jwks_uri number"),
        pytest.param(_discovery(jwks_uri="/keys"), _URI, id="jwks_uri relative"),
        pytest.param(_discovery(jwks_uri="file:///etc/passwd"), _URI, id="jwks_uri file"),
        pytest.param(
            _discovery(jwks_uri="http://keys.example/jwks"),
            "the discovery document is https but its jwks_uri is http",
            id="downgrade",
        ),
        pytest.param(
            b" " * (MAX_DOCUMENT_BYTES + 1), "the discovery document is larger than 1048576 bytes", id="too long"
        ),
    ],
)
def test_a_bad_discovery_document_is_a_failure(document: bytes, error: str) -> None:
    ring = _oidc_ring()
    _refresh_oidc(ring, _discovery(), keys.jwks(_ONE), NOW)
    now = NOW + _REFRESH
    _deliver(ring, document, now)
    assert _kids(ring) == ["one"]
    assert (_state(ring).last_error, _state(ring).issuer) == (error, keys.ISSUER)
    assert ring.next_due(now) == _RETRY
    assert _only(ring.due(now + _RETRY)).url == _OIDC


@pytest.mark.parametrize(
    ("endpoint", "jwks_uri"),
    [
        pytest.param(
            "http://keycloak:8080/.well-known/openid-configuration", "http://keycloak:8080/k", id="http to http"
        ),
        pytest.param(
            "http://keycloak:8080/.well-known/openid-configuration", "https://a.example/k", id="http to https"
        ),
        pytest.param(_OIDC, "HTTPS://a.example/k", id="https in capitals"),
    ],
)
def test_no_downgrade(endpoint: str, jwks_uri: str) -> None:
    ring = _oidc_ring(endpoint)
    _deliver(ring, _discovery(jwks_uri=jwks_uri), NOW)
    assert _only(ring.due(NOW)).url == jwks_uri


@pytest.mark.parametrize("document", [None, b'{"keys":[]}'], ids=["an outage", "an empty set"])
def test_a_failure_in_the_second_step_begins_anew(document: bytes | None) -> None:
    ring = _oidc_ring()
    _refresh_oidc(ring, _discovery(), keys.jwks(_ONE), NOW)
    now = NOW + _REFRESH
    _deliver(ring, _discovery(issuer="https://new.example", jwks_uri="https://a.example/k?key=hunter2"), now)
    fetch = _only(ring.due(now))
    if document is None:
        ring.failed(fetch, f"GET {fetch.url}: 503", now)
        assert _state(ring).last_error == "GET https://a.example/k?***: 503"
    else:
        ring.received(fetch, document, now)
    assert _kids(ring) == ["one"]
    assert _accepts(ring, keys.ISSUER), "the keys are as before, and so is their issuer"
    assert _state(ring).issuer == keys.ISSUER
    assert _only(ring.due(now + _RETRY)).url == _OIDC


def test_an_unknown_key_between_the_steps_changes_nothing() -> None:
    ring = _oidc_ring()
    _deliver(ring, _discovery(), NOW)
    ring.unknown_key(NOW)
    assert ring.next_due(NOW) == 0
    assert _only(ring.due(NOW)).url == _JWKS


# --- the law -------------------------------------------------------------------------------------------------------

_DOCUMENTS = [
    keys.jwks(_ONE),
    keys.jwks(_TWO),
    keys.jwks(_BAD),
    b'{"keys":[]}',
    b"",
    _discovery(),
    _discovery(issuer="x"),
]
_STEPS = st.lists(
    st.tuples(st.sampled_from([*range(len(_DOCUMENTS)), -1, -2]), st.floats(-1000, 1000), st.booleans()), max_size=25
)


@given(_STEPS)
def test_once_there_are_keys_there_always_are(steps: list[tuple[int, float, bool]]) -> None:
    """Whatever endpoints answer and clocks do: keys give way only to keys, and something is always planned."""
    ring = _ring(oidc_endpoints=[_OIDC])
    now: float = NOW
    had: set[str] = set()
    for choice, elapsed, unknown in steps:
        now += elapsed
        if unknown:
            ring.unknown_key(now)
        generation = ring.generation
        before = ring.keyset
        for fetch in ring.due(now):
            if choice >= 0:
                ring.received(fetch, _DOCUMENTS[choice], now)
            elif choice == -1:
                ring.failed(fetch, "down", now)
        assert (ring.generation != generation) == (ring.keyset is not before)
        for status in ring.status():
            assert status.keys > 0 or status.name not in had
            if status.keys:
                had.add(status.name)
        assert ring.waiting is not bool(had)
        wait = ring.next_due(now)
        assert wait is not None
        assert 0 <= wait <= max(_REFRESH, LOST_AFTER)
