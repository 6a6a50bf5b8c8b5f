//! Safetensors, GGUF and adapter files as bytes and tables.
