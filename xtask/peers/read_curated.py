#!/usr/bin/env python3
"""Opens curated documents as they are with DuckDB, pyarrow or datatrove, and says what it saw.

Usage: read_curated.py duckdb|pyarrow|datatrove FOLDER
FOLDER holds documents-NNNNN.parquet. Prints one JSON object: documents, characters of text, and a
sum over the ids, which must be the same for each reader; DuckDB also counts by language.
"""
import json
import pathlib
import sys

reader, folder = sys.argv[1:]
files = sorted(pathlib.Path(folder).glob("documents-*.parquet"))


def of_ids(ids):
    return sum(int(i[:12], 16) for i in ids) % (1 << 48)


def by_duckdb():
    import duckdb

    source = f"read_parquet('{folder}/documents-*.parquet')"
    query = f"select language, count(*), sum(length(text)) from {source} group by language order by 2 desc"
    rows = duckdb.sql(query).fetchall()
    ids = [row[0] for row in duckdb.sql(f"select id from {source}").fetchall()]
    return {
        "documents": sum(row[1] for row in rows),
        "characters": int(sum(row[2] for row in rows)),
        "ids": of_ids(ids),
        "languages": {row[0]: row[1] for row in rows},
    }


def by_pyarrow():
    import pyarrow.compute
    import pyarrow.parquet

    documents = characters = ids = 0
    for file in files:
        table = pyarrow.parquet.read_table(file)
        documents += table.num_rows
        lengths = pyarrow.compute.utf8_length(table["text"])
        characters += pyarrow.compute.sum(lengths).as_py() or 0
        ids += of_ids(table["id"].to_pylist())
    return {"documents": documents, "characters": characters, "ids": ids % (1 << 48)}


def by_datatrove():
    from datatrove.pipeline.readers import ParquetReader

    read = ParquetReader(folder, glob_pattern="documents-*.parquet", text_key="text", id_key="id")
    documents = list(read())
    return {
        "documents": len(documents),
        "characters": sum(len(d.text) for d in documents),
        "ids": of_ids(d.id for d in documents),
    }


print(json.dumps({"duckdb": by_duckdb, "pyarrow": by_pyarrow, "datatrove": by_datatrove}[reader]()))
