"""The usage report: who used what, by hour, day and month.

:class:`Accounting` counts requests that have ended. :class:`Question` says which part of the report somebody wants, and
:class:`Report` writes it as CSV, JSON and text.
"""

from .accounting import NAMES, OTHER, Accounting, Amounts, Key
from .question import ARGUMENTS, Period, Question, moment_of, start_of
from .report import FORMATS, Line, Report

__all__ = [
    "ARGUMENTS", "FORMATS", "NAMES", "OTHER", "Accounting", "Amounts", "Key", "Line", "Period", "Question", "Report",
    "moment_of", "start_of",
]  # fmt: skip
