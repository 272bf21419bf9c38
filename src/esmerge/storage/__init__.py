"""Files: the content-addressed cache, atomic writes, streamed safetensors."""
