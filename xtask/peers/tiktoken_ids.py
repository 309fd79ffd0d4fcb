"""Encodes the texts of DIR/ids.jsonl by tiktoken with the ranks of DIR/ranks.tiktoken and Llama 3's
split pattern, and prints how many texts and ids there were and how many texts got other ids.

Usage: tiktoken_ids.py DIR
"""

import json
import pathlib
import sys

import tiktoken
from tiktoken.load import load_tiktoken_bpe

PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

folder = pathlib.Path(sys.argv[1])
ranks = load_tiktoken_bpe(str(folder / "ranks.tiktoken"))
encoding = tiktoken.Encoding("ours", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
texts = ids = different = 0
with open(folder / "ids.jsonl", encoding="utf-8") as lines:
    for line in lines:
        row = json.loads(line)
        expected = encoding.encode_ordinary(row["text"])
        texts += 1
        ids += len(expected)
        if expected != row["ids"]:
            different += 1
            print("different:", repr(row["text"][:80]), expected[:20], row["ids"][:20])
print(json.dumps({"version": tiktoken.__version__, "ranks": len(ranks), "texts": texts,
                  "ids": ids, "different": different}))
