//! Llama: configuration, parameter table, forward, backward, checkpoint format, import and export
