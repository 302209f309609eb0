"""A tiny language model of our own: the texts it learns, its tokenizer, its training and what it can do."""
