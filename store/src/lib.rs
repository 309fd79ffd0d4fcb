//! what is durable: atomic files, manifests, checksums, run lock, resumable work units; progress and cancellation
