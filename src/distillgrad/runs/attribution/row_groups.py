"""Tables as Parquet files that are the same, to the byte, however their rows were cut."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

from distillgrad.core.optional import optional

ROWS_PER_GROUP = 1_024
"""Few rows, for the open part of a table, as Python objects and in Arrow, is as long as a group."""


def parquet_of(tables: Iterable[Any], schema: Any) -> bytes:
    """Return ``pyarrow`` tables end to end as a Parquet file; their cuts do not move its row groups."""
    arrow, parquet = optional("pyarrow", "scale"), optional("pyarrow.parquet", "scale")
    file = io.BytesIO()
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        waiting = schema.empty_table()
        for table in tables:
            waiting = arrow.concat_tables([waiting, table.replace_schema_metadata(schema.metadata)])
            whole = len(waiting) // ROWS_PER_GROUP * ROWS_PER_GROUP
            if whole:
                writer.write_table(waiting[:whole].combine_chunks(), row_group_size=ROWS_PER_GROUP)
                waiting = waiting[whole:]
        if len(waiting):
            writer.write_table(waiting.combine_chunks())
    return file.getvalue()
