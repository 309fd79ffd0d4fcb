//! generation: cache, batching, sampling
