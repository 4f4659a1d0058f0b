"""Makes the captures in ``tests/data/replay``: ``python -m tests.make_flows PRIVATE_KEY.pem FLOWS.mitm``.

The private key is made where it does not exist, and its public half is written beside the flows. Run it once with each
version of mitmproxy; no test needs the private key again, for no capture holds a signature.
"""

from __future__ import annotations

import sys
from pathlib import Path

from joserfc.jwk import ECKey

from tests.support.wire.processes import Gateway
from tests.support.wire.tokens import SigningKey, team, tenant
from tests.support.wire.upstream import RecordingUpstream

FOR_EVER = 4102444800  # 2100-01-01
BACKEND = 28428
"""The port of the backend, which stands in the records."""


def main(private: Path, flows: Path) -> None:
    """Capture some requests through a gateway."""
    if not private.exists():
        private.write_bytes(ECKey.generate_key("P-256").as_pem(private=True))
    key = SigningKey(algorithm="ES256", key=ECKey.import_key(private.read_text()))
    public = flows.parent / "public.pem"
    public.write_text(key.public_pem)
    with RecordingUpstream(port=BACKEND) as upstream:
        backends = (f"-read.url={upstream.url}", f"-write.url={upstream.url}")
        flags = ("-enable.auth", f"-auth.publicKeyFiles={public}", *backends, f"-capture.file={flows}")
        with Gateway(*flags) as gateway:
            capture(gateway, key)


def capture(gateway: Gateway, key: SigningKey) -> None:
    """The requests: admitted and refused, reads and writes."""
    dev = gateway.client(key.sign({"exp": FOR_EVER, "vm_access": team("dev"), "sub": "dev"}))
    dev.get("/api/v1/query", {"query": "up", "authKey": "hush"}, headers={"Cookie": "sid=hush"})
    dev.post("/api/v1/query", form={"query": "sum(up)", "password": "hush"})
    dev.post("/api/v1/import/prometheus", body="foo 1\n")
    dev.get("/vmalert/static/a.js")
    other = gateway.client(key.sign({"exp": FOR_EVER, "vm_access": tenant(1, 5)}))
    other.get("/api/v1/labels")
    other.get("/nowhere")
    gateway.client(key.sign({"exp": 1, "vm_access": {}})).get("/api/v1/query", {"query": "up"})
    gateway.client(SigningKey.generate("ES256").sign({"exp": FOR_EVER, "vm_access": {}})).get("/api/v1/query")
    gateway.client().get("/api/v1/query")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
