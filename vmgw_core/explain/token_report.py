"""Reports of valid and refused tokens: their contents, and what they grant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vmgw_core.base import Access, printable
from vmgw_core.errors import Refusal
from vmgw_core.routing import ROUTES
from vmgw_core.tokens import Token, TokenVerifier, VerificationKey, VMAccessClaim, peek

from .model import TokenReport, access_as_json
from .text import access_lines, token_key, token_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedToken:
    """A token at the Unix time ``time``. ``token`` is None if it is refused; then ``refusal`` says why."""

    time: float
    report: TokenReport
    token: Token | None
    refusal: Refusal | None

    def as_json(self) -> dict[str, object]:
        """Return plain data for ``json.dumps``, with the keys of an explanation."""
        refusal = self.refusal
        return {
            "verdict": "refused" if refusal else "admitted",
            "time": self.time,
            "refusal": None if refusal is None else {"code": refusal.code, "message": refusal.message},
            "token": self.report.as_json(),
            "access": None
            if self.token is None
            else access_as_json(self.token.grants.alternatives, self.token.grants.sources),
        }

    def as_text(self) -> str:
        """Return the report as text, with a newline at its end."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        if self.refusal is not None:
            yield f"REFUSED  {self.refusal.code}: {printable(self.refusal.message)}"
        else:
            yield f"GOOD  {token_key(self.report)}"
        yield from token_lines(self.report, self.time)
        if self.token is not None:
            claims = self.token.grants.alternatives
            yield from ("", "It grants", *access_lines(claims, self.token.grants.sources), *_open_lines(claims))


def judge_token(verifier: TokenVerifier, text: str, now: float) -> JudgedToken:
    """Verify ``text``, a token without ``Bearer``, at the Unix time ``now``."""
    try:
        token = verifier.verify(text, now)
    except Refusal as refusal:
        return JudgedToken(time=now, report=report_of(text), token=None, refusal=refusal)
    return JudgedToken(time=now, report=report_of(text, token.key), token=token, refusal=None)


def report_of(text: str, key: VerificationKey | None = None) -> TokenReport:
    """Return the report of the token ``text``, which ``key`` has verified; None: no key did."""
    seen = peek(text)
    return TokenReport(header=seen.header, claims=seen.claims, verified=key is not None, key=key)


def credential_report(token: Token) -> TokenReport:
    """Return the report of a token that stands for a credential of ``-auth.credentialsFile``."""
    name = f"{token.credential} {token.subject}"
    return TokenReport(header=None, claims=None, verified=True, key=None, credential=name)


def _open_lines(claims: Sequence[VMAccessClaim]) -> Iterator[str]:
    """Yield the number of routes that they open, and those that their labels or filters close."""
    routes = [route for route in ROUTES if route.single and not route.prefix]
    for access in Access:
        allowing = [claim for claim in claims if claim.mode.allows(access)]
        if allowing:
            paths = [route for route in routes if route.access is access]
            restricted = all(claim.restricted for claim in allowing)
            closed = [route.path for route in paths if restricted and route.ignored and route.answer is None]
            yield f"  {access.value}: {len(paths) - len(closed)} of {len(paths)} paths"
            if closed:
                yield f"    not {', '.join(closed)}: the backend ignores labels and filters there"
        else:
            yield f"  {access.value}: no"


def unverified_lines(text: str) -> list[str]:
    """Return the header and claims of an unverified token. Raises ``ValueError`` if it is not a token."""
    report = report_of(text)
    if report.header is None:
        raise ValueError("not a token")
    return list(token_lines(report, None))[1:]
