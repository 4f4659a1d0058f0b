"""HTTP as bytes and values: request heads, the framing of bodies, forms, content encodings and responses.

Nothing here knows tokens or VictoriaMetrics' paths.
"""

from .content_coding import Decoder, Plain, Sink, SnappyBlock, ZstdBlock, content_encoding, decoder
from .forms import (
    MAX_ARGUMENTS,
    MULTIPART,
    URLENCODED,
    decoded_key,
    encode_pair,
    is_form,
    key_of,
    read_form,
    split_pairs,
)
from .framing import BodyReader, ChunkedReader, LengthReader
from .head import (
    HeadLimits,
    RequestHead,
    RequestLine,
    check_fields,
    check_head,
    check_request_line,
    find_head,
    mend,
    skip_empty_lines,
)
from .headers import HeaderFacts, Headers, facts_bytes, facts_cache, facts_of, values_of
from .responses import CORS, NOT_SHARED, HeaderEdit, Response, refusal_response
from .series_fetched import SeriesFetched
from .trace_context import RANDOM, SAMPLED, TraceContext, with_trace

__all__ = [
    "CORS",
    "MAX_ARGUMENTS",
    "MULTIPART",
    "NOT_SHARED",
    "RANDOM",
    "SAMPLED",
    "URLENCODED",
    "BodyReader",
    "ChunkedReader",
    "Decoder",
    "HeadLimits",
    "HeaderEdit",
    "HeaderFacts",
    "Headers",
    "LengthReader",
    "Plain",
    "RequestHead",
    "RequestLine",
    "Response",
    "SeriesFetched",
    "Sink",
    "SnappyBlock",
    "TraceContext",
    "ZstdBlock",
    "check_fields",
    "check_head",
    "check_request_line",
    "content_encoding",
    "decoded_key",
    "decoder",
    "encode_pair",
    "facts_bytes",
    "facts_cache",
    "facts_of",
    "find_head",
    "is_form",
    "key_of",
    "mend",
    "read_form",
    "refusal_response",
    "skip_empty_lines",
    "split_pairs",
    "values_of",
    "with_trace",
]
