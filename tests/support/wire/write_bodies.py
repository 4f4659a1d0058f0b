"""Bodies of writes that VictoriaMetrics takes, for tests whose subject is something else."""

from __future__ import annotations

from typing import Final

JSON_LINE: Final = b'{"metric":{"__name__":"m"},"values":[1],"timestamps":[1700000000000]}\n'
"""A line for ``/api/v1/import``."""

TEXT_BLOCK: Final = b'm{a="%b"} 1\n' % (b"x" * 1014) * 64
"""64 KiB of lines for ``/api/v1/import/prometheus``. A body of more than 16 is sent on before its end."""
