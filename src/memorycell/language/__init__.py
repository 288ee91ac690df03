"""Text: codecs, language models, n-gram models and sampling, shared by several applications."""
