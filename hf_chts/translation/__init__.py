"""Translation: data, tokenizers, decoding, scores, and an embedded corpus."""
