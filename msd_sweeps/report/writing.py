"""Files of a report: whole or not at all, and the same bytes for the same content."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pyarrow.parquet

from msd_sweeps.records.files import write_whole
from msd_sweeps.report.escaping import for_csv

SIGNIFICANT = 10
"""Digits of computed numbers that are kept, so that the last bits of another processor do not show."""


def rounded(value: float) -> float:
    """A number with its first `SIGNIFICANT` digits; NaN and infinity as they are."""
    return float(f"{value:.{SIGNIFICANT}g}") if math.isfinite(value) else value


def rounded_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame whose float columns are rounded by `rounded`."""
    result = frame.copy()
    for name in result.columns:
        if pd.api.types.is_float_dtype(result[name].dtype):
            result[name] = [rounded(value) for value in result[name].to_numpy(dtype=float)]
    return result


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file whole and return its path. Raises OSError that names the path."""
    write_whole(path, content)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write a UTF-8 text with a line feed at its end."""
    return write_bytes(path, (text.rstrip("\n") + "\n").encode("utf-8", "replace"))


def write_parquet(path: Path, frame: pd.DataFrame) -> Path:
    """Write a frame without its index; zstd, no metadata that changes between runs."""
    table = pyarrow.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, compression="zstd")
    return write_bytes(path, buffer.getvalue())


def write_csv(path: Path, frame: pd.DataFrame) -> Path:
    """Write a frame as CSV (RFC 4180); missing values are empty, texts made safe by `for_csv`."""
    columns = [frame[name].tolist() for name in frame.columns]
    return write_bytes(path, csv_text([str(name) for name in frame.columns], zip(*columns, strict=True)).encode())


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A CSV text of a header and rows of plain values."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([for_csv(name) for name in header])
    writer.writerows([_csv_value(value) for value in row] for row in rows)
    return buffer.getvalue()


def _csv_value(value: Any) -> Any:
    if isinstance(value, str):
        return for_csv(value)
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return ""
    return value
