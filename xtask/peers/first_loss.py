#!/usr/bin/env python3
"""The loss of each text of a folder under a checkpoint, by transformers in f32.

Usage: first_loss.py CHECKPOINT_DIR TEXTS_DIR
Needs torch and transformers. A text is one document: it is opened by the token that begins a text
and closed by the one that ends it. Prints one JSON object: of each file its tokens and its mean
loss, nats. It compares nothing itself.
"""
import json
import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

folder, texts = sys.argv[1], pathlib.Path(sys.argv[2])
tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json")
model = AutoModelForCausalLM.from_pretrained(
    folder, dtype=torch.float32, attn_implementation="eager"
).eval()
begin, end = tokenizer.convert_tokens_to_ids(["<|begin_of_text|>", "<|end_of_text|>"])
found = {}
for path in sorted(texts.iterdir()):
    ids = tokenizer.encode(path.read_text().strip(), add_special_tokens=False)
    row = torch.tensor([[begin, *ids, end]])
    with torch.no_grad():
        logits = model(row[:, :-1]).logits.double()
    loss = torch.nn.functional.cross_entropy(logits[0], row[0, 1:])
    found[path.name] = {"tokens": len(ids), "loss": loss.item()}
print(json.dumps(found))
