"""Vocabularies of GPT's and GPT-2's kind, learnt from one page by the plainest method."""

from __future__ import annotations

import collections
import itertools
import string

import regex

from gptbert.tokenizers import byte_bpe, gpt_words
from gptbert.tokenizers.bpe import GptBpe
from gptbert.tokenizers.byte_bpe import ByteBpe

TEXT = """The cat didn't see Mr. Smith walking. It's the walker's cat, isn't it? "You'll see!"
They were walking in the world of 1990 -- 1995, and the other cats won't walk 100 km in 2000.
Überall naïve café, été, 日本語 and the end. Hello world... hello the (the) the, the. I'm here.
"""

Vocabulary = dict[str, int]
Merge = tuple[str, str]


def gpt(count: int = 150) -> GptBpe:
    return GptBpe(*gpt_files(count))


def gpt2(count: int = 150) -> ByteBpe:
    return ByteBpe(*gpt2_files(count))


def gpt_files(count: int = 150) -> tuple[Vocabulary, list[Merge]]:
    words = [[*w[:-1], f"{w[-1]}</w>"] for w in gpt_words.words(TEXT)]
    letters = sorted(
        {*string.printable[:94].lower(), *"".join(gpt_words.words(TEXT)), "ς"} - {"\n"}
    )
    merges = learn(words, count)
    entries = ["<unk>", *letters, *(f"{letter}</w>" for letter in letters)]
    entries += [*map("".join, merges), "\n</w>"]
    return {entry: number for number, entry in enumerate(dict.fromkeys(entries))}, merges


def gpt2_files(count: int = 150) -> tuple[Vocabulary, list[Merge]]:
    pieces = regex.findall(byte_bpe.PATTERN, TEXT)
    merges = learn([[byte_bpe.BYTES[b] for b in piece.encode()] for piece in pieces], count)
    entries = [*byte_bpe.BYTES, *map("".join, merges), "<|endoftext|>"]
    return {entry: number for number, entry in enumerate(dict.fromkeys(entries))}, merges


def learn(words: list[list[str]], count: int) -> list[Merge]:
    """Sennrich's loop; of pairs that are equally frequent, the first by name."""
    merges: list[Merge] = []
    for _ in range(count):
        pairs = collections.Counter(pair for word in words for pair in itertools.pairwise(word))
        if not pairs:
            break
        (first, second), _ = min(pairs.items(), key=lambda item: (-item[1], item[0]))
        merges.append((first, second))
        words = [joined(word, first, second) for word in words]
    return merges


def joined(word: list[str], first: str, second: str) -> list[str]:
    found: list[str] = []
    for symbol in word:
        if found and found[-1] == first and symbol == second:
            found[-1] = first + second
        else:
            found.append(symbol)
    return found
