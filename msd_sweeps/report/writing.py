"""Files of a report: whole or not at all, and the same bytes for the same content."""

import io
import math
from pathlib import Path

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
    floats = [name for name in frame.columns if pd.api.types.is_float_dtype(frame[name].dtype)]
    return frame.assign(**{name: [rounded(value) for value in frame[name].to_numpy(dtype=float)] for name in floats})


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
    """Write a frame as CSV; see `csv_text`."""
    return write_bytes(path, csv_text(frame).encode())


def csv_text(frame: pd.DataFrame) -> str:
    """A frame as CSV (RFC 4180) without its index; missing values are empty, texts made safe by `for_csv`."""
    safe = frame.rename(columns=for_csv)
    for name in safe.select_dtypes(["object", "str"]):
        safe[name] = pd.Series([for_csv(v) if isinstance(v, str) else v for v in safe[name]], safe.index, object)
    return safe.to_csv(index=False, lineterminator="\n")
