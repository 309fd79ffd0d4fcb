#!/usr/bin/env python3
"""Times a main-text extractor written in or for Python on a folder of pages, on one core.

Usage: extract_pages.py resiliparse|trafilatura HTML_DIR OUT.jsonl
HTML_DIR holds ID.html.gz or ID.html. The pages are inflated before the clock starts; the clock is
the processor's, and it runs over charset decoding and extraction, each as the library does it.
Prints one JSON object; OUT gets {"id", "text"} for the scorer. It compares nothing itself.
"""
import gzip
import importlib.metadata
import json
import pathlib
import sys
import time


def resiliparse():
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding

    def extract(page):
        text = bytes_to_str(page, detect_encoding(page, from_html_meta=True))
        return extract_plain_text(text, main_content=True)

    return extract


def trafilatura():
    from trafilatura import extract

    return extract


name, folder, out = sys.argv[1:]
extract = {"resiliparse": resiliparse, "trafilatura": trafilatura}[name]()
pages = []
for path in sorted(pathlib.Path(folder).iterdir()):
    if path.name.endswith(".html.gz"):
        pages.append((path.name.removesuffix(".html.gz"), gzip.decompress(path.read_bytes())))
    elif path.name.endswith(".html"):
        pages.append((path.name.removesuffix(".html"), path.read_bytes()))
extract(pages[0][1])  # what a library loads on its first call is not its rate
texts, start = [], time.process_time()
failed = 0
for _, page in pages:
    try:
        texts.append(extract(page) or "")
    except Exception:
        failed += 1
        texts.append("")
seconds = time.process_time() - start
with open(out, "w", encoding="utf-8") as file:
    for (page, _), text in zip(pages, texts):
        file.write(json.dumps({"id": page, "text": text}) + "\n")
print(
    json.dumps(
        {
            "peer": name,
            "version": importlib.metadata.version(name),
            "pages": len(pages),
            "failed": failed,
            "seconds": seconds,
            "pages_per_s": len(pages) / seconds,
        }
    )
)
