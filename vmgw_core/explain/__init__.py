"""A decision told to people: as a value, as JSON and in words.

Nothing here decides. It judges a request with the functions of ``vmgw_core.enforcement`` and reports the steps.
"""

from __future__ import annotations

from .curl import CurlError, CurlRequest, parse_curl
from .model import Explanation, Verdict
from .request import Outcome, explain, own_page, usages
from .shell_words import ShellError, split_words
from .text import as_text, limit_line, moment, summary
from .token_report import TokenStory, judge_token, tell_unverified

__all__ = [
    "CurlError",
    "CurlRequest",
    "Explanation",
    "Outcome",
    "ShellError",
    "TokenStory",
    "Verdict",
    "as_text",
    "explain",
    "judge_token",
    "limit_line",
    "moment",
    "own_page",
    "parse_curl",
    "split_words",
    "summary",
    "tell_unverified",
    "usages",
]
