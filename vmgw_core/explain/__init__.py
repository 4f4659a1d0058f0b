"""Explanations of decisions: as values, as JSON and in words.

Nothing here decides: a request runs through ``vmgw_core.enforcement``, and its steps are reported.
"""

from .curl import CurlRequest, parse_curl
from .curl_options import CurlError
from .model import Explanation, Verdict, access_as_json
from .request import Outcome, explain, own_page, usages
from .shell_words import ShellError, split_words
from .text import access_lines, explanation_text, limit_line, moment, summary
from .token_report import JudgedToken, judge_token, unverified_lines

__all__ = [
    "CurlError", "CurlRequest", "Explanation", "JudgedToken", "Outcome", "ShellError", "Verdict", "access_as_json",
    "access_lines", "explain",
    "explanation_text", "judge_token", "limit_line", "moment", "own_page", "parse_curl", "split_words", "summary",
    "unverified_lines", "usages",
]  # fmt: skip
