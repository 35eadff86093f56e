"""From the bytes of a plugin's stderr to log records: split into lines, join tracebacks, understand the rest.

    chunk ─▶ LineSplitter ─▶ Line ─▶ RecordAssembler ─▶ LogRecord

All of it is sans-IO, bounded, linear in its input and total: whatever a plugin prints becomes a record, never an error.
"""

from supervisor.log_lines.assembling import RecordAssembler
from supervisor.log_lines.parsing import parse_line
from supervisor.log_lines.splitting import Line, LineSplitter

__all__ = ["Line", "LineSplitter", "RecordAssembler", "parse_line"]
