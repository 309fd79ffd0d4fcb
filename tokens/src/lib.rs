//! tokenizer, chat format, token shards, the loader
