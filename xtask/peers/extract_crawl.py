#!/usr/bin/env python3
"""Main text of the pages of a WARC file by trafilatura or by datatrove.

Usage: extract_crawl.py trafilatura|datatrove CRAWL.warc.gz OUT.jsonl
trafilatura gets the bytes of each response, with its defaults. datatrove is its own reader and its
own extractor with their defaults, in one process. Their reader of WARC ends at the first damaged
member, so both get a copy of the crawl without damaged members. Writes {"id", "text"} by record id
(as the scorer of main text reads it) and prints one JSON object; it compares nothing itself.
"""
import importlib.metadata
import json
import pathlib
import sys
import tempfile
import time
import zlib

name, crawl, out = sys.argv[1:]


def bare(record_id):
    return record_id.strip("<>").removeprefix("urn:uuid:")


def sound(data):
    """The gzip members that inflate to the checksum they carry and hold a record."""
    members, at = [], data.find(b"\x1f\x8b\x08")
    while at >= 0:
        inflate, end = zlib.decompressobj(wbits=31), at + 1
        try:
            text = inflate.decompress(data[at : at + (1 << 26)])
            if inflate.eof and text.startswith(b"WARC/"):
                end = at + min(len(data) - at, 1 << 26) - len(inflate.unused_data)
                members.append(data[at:end])
        except zlib.error:
            pass
        at = data.find(b"\x1f\x8b\x08", end)
    return members


def by_trafilatura():
    from trafilatura import extract
    from warcio.archiveiterator import ArchiveIterator

    with open(whole, "rb") as file:
        for record in ArchiveIterator(file):
            if record.rec_type != "response" or record.http_headers is None:
                continue
            try:
                text = extract(record.content_stream().read())
            except Exception:
                text = None
            yield bare(record.rec_headers.get_header("WARC-Record-ID")), text or ""


def by_datatrove():
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.extractors import Trafilatura
    from datatrove.pipeline.readers import WarcReader
    from datatrove.pipeline.writers.jsonl import JsonlWriter

    writer = JsonlWriter(f"{work}/text", compression=None)
    reader = WarcReader(str(whole.parent), glob_pattern=whole.name)
    steps = [reader, Trafilatura(), writer]
    LocalPipelineExecutor(pipeline=steps, tasks=1, logging_dir=f"{work}/logs").run()
    for file in sorted(pathlib.Path(f"{work}/text").iterdir()):
        for line in file.read_text(encoding="utf-8").split("\n"):
            if line:
                page = json.loads(line)
                yield bare(page["id"]), page["text"]


start, pages = time.time(), 0
with tempfile.TemporaryDirectory() as work, open(out, "w", encoding="utf-8") as file:
    whole = pathlib.Path(work) / "crawl.warc.gz"
    whole.write_bytes(b"".join(sound(pathlib.Path(crawl).read_bytes())))
    for page, text in {"trafilatura": by_trafilatura, "datatrove": by_datatrove}[name]():
        file.write(json.dumps({"id": page, "text": text}) + "\n")
        pages += 1
version = importlib.metadata.version(name)
print(json.dumps({"peer": name, "version": version, "pages": pages, "seconds": time.time() - start}))
