#!/usr/bin/env python3
"""Loads a checkpoint with transformers and writes what it computes as a case for `quipu verify`.

Usage: compare_export.py CHECKPOINT_DIR CASE_OUT.safetensors
Needs torch, transformers and safetensors. It compares nothing itself: the program's own referee
does that, with the tolerances it has for every other case.
"""
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

folder, case = sys.argv[1:]
torch.manual_seed(0)
model = AutoModelForCausalLM.from_pretrained(
    folder, dtype=torch.float32, attn_implementation="eager"
).eval()
ids = torch.randint(0, model.config.vocab_size, (2, 24))
with torch.no_grad():
    out = model(ids, labels=ids)
save_file({"input_ids": ids, "logits": out.logits.contiguous(), "loss": out.loss.reshape(1)}, case)
print(f"{sum(p.numel() for p in model.parameters())} parameters loaded from {folder}")
