"""What a token is and what it would grant, for people; a token that is refused too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vmgw_core.base import Access, printable
from vmgw_core.errors import Refusal
from vmgw_core.routing import ROUTES
from vmgw_core.tokens import Token, TokenVerifier, VMAccessClaim, peek

from .model import TokenReport, access_as_json, token_as_json
from .text import access_lines, token_key, token_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedToken:
    """A token at the Unix time ``time``. ``token`` is None where it is refused; then ``refusal`` says why."""

    time: float
    told: TokenReport
    token: Token | None
    refusal: Refusal | None

    @property
    def claim(self) -> VMAccessClaim | None:
        """What the token grants."""
        return None if self.token is None else self.token.access

    def as_json(self) -> dict[str, object]:
        """Plain data for ``json.dumps``, with the keys of an explanation."""
        refusal = self.refusal
        return {
            "verdict": "refused" if refusal else "admitted",
            "time": self.time,
            "refusal": None if refusal is None else {"code": refusal.code, "message": refusal.message},
            "token": token_as_json(self.told),
            "access": access_as_json(self.claim, None if self.claim is None else str(self.claim.tenant)),
        }

    def as_text(self) -> str:
        """The same for people, with a newline at its end."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        if self.refusal is not None:
            yield f"REFUSED  {self.refusal.code}: {printable(self.refusal.message)}"
        else:
            yield f"GOOD  {token_key(self.told)}"
        yield from token_lines(self.told, self.time)
        if self.claim is not None:
            yield from ("", "It grants", *access_lines(self.claim, str(self.claim.tenant)), *_open_lines(self.claim))


def judge_token(verifier: TokenVerifier, text: str, now: float) -> JudgedToken:
    """Verify ``text``, a token without ``Bearer``, at the Unix time ``now``."""
    try:
        token = verifier.verify(text, now)
    except Refusal as refusal:
        seen = peek(text)
        told = TokenReport(header=seen.header, claims=seen.claims, verified=False, key=None)
        return JudgedToken(time=now, told=told, token=None, refusal=refusal)
    return JudgedToken(time=now, told=report_of(token, text), token=token, refusal=None)


def report_of(token: Token, text: str) -> TokenReport:
    """A good token, whose text is ``text``, without its signature."""
    seen = peek(text)
    return TokenReport(header=seen.header, claims=seen.claims, verified=token.key is not None, key=token.key)


def _open_lines(claim: VMAccessClaim) -> Iterator[str]:
    """The routes it opens, and those that it would open but for its labels and filters."""
    routes = [route for route in ROUTES if route.single and not route.prefix]
    for access in Access:
        if claim.mode.allows(access):
            paths = [route for route in routes if route.access is access]
            closed = [route.path for route in paths if claim.restricted and route.ignored]
            yield f"  {access.value}: {len(paths) - len(closed)} of {len(paths)} paths"
            if closed:
                yield f"    not {', '.join(closed)}: labels and filters are ignored there"
        else:
            yield f"  {access.value}: no"


def unverified_lines(text: str) -> list[str]:
    """Header and claims of a token, without a word on whether it is good. Raises ``ValueError`` for none."""
    seen = peek(text)
    if seen.header is None:
        raise ValueError("no token")
    told = TokenReport(header=seen.header, claims=seen.claims, verified=False, key=None)
    return list(token_lines(told, None))[1:]
