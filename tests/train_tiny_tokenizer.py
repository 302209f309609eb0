"""How the files of `tests/data/tiny-tokenizer` were made from the corpus there (sentencepiece 0.2.3).

`python tests/train_tiny_tokenizer.py` makes `tokenizer.model` and `tokenizer.json` anew.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "data" / "tiny-tokenizer"
SPECIAL = ("<unk>", "<s>", "</s>")


def train() -> bytes:
    """The sentencepiece model: 768 pieces, byte-pair merges; what has no piece is spelt in bytes."""
    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter((FOLDER / "corpus.txt").read_text(encoding="utf-8").splitlines()),
        model_writer=written,
        model_type="bpe",
        vocab_size=768,
        character_coverage=0.985,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return written.getvalue()


def as_tokenizer_json(model: bytes) -> dict[str, Any]:
    """The same tokenizer in the `tokenizers` library's form, as checkpoints have it beside the model."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = [processor.id_to_piece(number) for number in range(processor.vocab_size())]
    ids = {piece: number for number, piece in enumerate(pieces)}
    merges: list[tuple[str, str]] = []
    for piece in sorted(pieces, key=lambda piece: -processor.get_score(ids[piece])):
        halves = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        if piece in SPECIAL or processor.is_byte(ids[piece]):
            continue
        known = [(left, right) for left, right in halves if left in ids and right in ids]
        merges += sorted(known, key=lambda pair: (ids[pair[0]], ids[pair[1]]))
    start = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    second = [{"SpecialToken": {"id": "<s>", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": ids[word], "content": word, **flags} for word in SPECIAL],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [start, text],
            "pair": [start, text, *second],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [ids["<s>"]], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": ids,
            "merges": [list(pair) for pair in merges],
        },
    }


def main() -> None:
    """Write both files."""
    model = train()
    (FOLDER / "tokenizer.model").write_bytes(model)
    rewritten = json.dumps(as_tokenizer_json(model), ensure_ascii=False, indent=1)
    (FOLDER / "tokenizer.json").write_text(rewritten + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
