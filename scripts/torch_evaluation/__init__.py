"""Passkey and perplexity of a transformers model, many cells at once: for tiny models and many of them."""
