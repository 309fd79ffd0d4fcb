//! crawl to clean, deduplicated, scored documents
