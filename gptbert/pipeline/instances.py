"""Which stretches of a corpus make the examples of one pass, as BERT's data creation has it.

    next sentence (MLM + NSP)       [CLS] a [SEP] b [SEP]    b follows a, or is from elsewhere
    without (MLM, left to right)    [CLS] a [SEP]            a stretch of one document

Google's `create_pretraining_data.py` builds examples one after another, since what a random second
text leaves of a chunk is put back and read again. Here all documents walk side by side, one chunk
each a round, on the lengths of the sentences alone: no token is read, and an example is four
offsets and a label. Every draw is a hash of (seed, pass, place), and so is the result.

Where this departs from the script, nothing changes in how the examples of a document are
distributed: documents need no shuffling of their own, since the examples of a pass are shuffled in
the end, as there; which documents are cut short is drawn evenly over the text (`_targets`); each
pass over the corpus is drawn anew (`draws_of`) rather than ten passes once; and single texts, which
the script does not make, go on where the one before was cut, so that none of their text is lost.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from gptbert.errors import UserError, nearest
from gptbert.pipeline import draws
from gptbert.pipeline.store import TokenStore

OBJECTIVES = ("mlm_nsp", "mlm", "left_to_right")
_OTHER_DOCUMENT_DRAWS = 10
_ORDER, _ANGLE, _SPLIT, _KIND, _START, _DOCUMENT = range(6)  # and one for each further draw


@dataclasses.dataclass(frozen=True)
class Creation:
    """How examples are made.

    Attributes:
      objective: "mlm_nsp" (pairs), or "mlm" and "left_to_right" (single texts, BERT section 5.1).
      length: Longest example, special tokens included.
      short_share: Probability, 0 to 1, that a document is cut to a random shorter length in a
        pass (`short_seq_prob`).
      duplicates: 0 draws every pass anew; k repeats the draws of the first k passes, examples and
        masks alike (`dupe_factor`: static masks).
    """

    objective: str = "mlm_nsp"
    length: int = 128
    short_share: float = 0.1
    duplicates: int = 0

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise UserError(
                f"no objective {self.objective!r}{nearest(self.objective, OBJECTIVES)}; expected "
                f"one of {', '.join(OBJECTIVES)} (--config.objective)"
            )
        if self.length < self.specials + 2:
            raise UserError(
                f"sequence length {self.length} leaves no room for text; expected at least "
                f"{self.specials + 2} (--config.phases)"
            )
        if not 0 <= self.short_share <= 1:
            raise UserError(
                f"a share of {self.short_share} documents cut short is no share; expected 0 to 1 "
                "(--config.short_share)"
            )

    @property
    def pairs(self) -> bool:
        """Whether an example has two texts."""
        return self.objective == "mlm_nsp"

    @property
    def specials(self) -> int:
        """Special tokens of an example: [CLS] and a [SEP] after each text."""
        return 3 if self.pairs else 2

    def draws_of(self, epoch: int) -> int:
        """The pass whose draws an epoch has."""
        return epoch % self.duplicates if self.duplicates else epoch


@dataclasses.dataclass(frozen=True)
class Instances:
    """The examples of one pass, without their tokens.

    Attributes:
      first: int64 [E,2], where the first text starts and stops in the store's stream.
      second: int64 [E,2], the second text; empty for single texts.
      random_next: bool [E], whether the second text is a random one.
      specials: Special tokens of each example.
      cut: Tokens that the length took from pairs (they may come back in other passes).
    """

    first: np.ndarray
    second: np.ndarray
    random_next: np.ndarray
    specials: int
    cut: int

    def __len__(self) -> int:
        return len(self.random_next)

    @property
    def lengths(self) -> np.ndarray:
        """int64 [E], tokens of each example, special ones included."""
        texts = self.first[:, 1] - self.first[:, 0] + self.second[:, 1] - self.second[:, 0]
        return texts + self.specials


def make_instances(store: TokenStore, creation: Creation, seed: int, number: int) -> Instances:
    """The examples of pass `number`: a pure function of the arguments.

    With a single document, random second texts come from that document, as in the script after
    its ten vain draws of another one. A document of one sentence always gets a random second text.
    Of pairs with sentences that are too long, what is cut off is counted (`cut`); single texts go
    on where the one before was cut.

    The time grows with the chunks of the longest document, since each takes a round: a corpus that
    is one document takes far longer than one of many documents, for pairs more so than for single
    texts, each pass. A plan of several passes or phases takes as many times that.

    Raises:
      UserError: The store is empty, or has no two sentences that could follow each other.
    """
    corpus = _Corpus.of(store, creation)
    key = draws.key(seed, "instances", creation.length, number)
    keys = draws.bits(key, np.arange(_DOCUMENT + _OTHER_DOCUMENT_DRAWS))
    if creation.pairs:
        return _pairs(corpus, creation, keys)
    return _singles(corpus, creation, keys)


@dataclasses.dataclass(frozen=True)
class _Corpus:
    """Sentences and documents, none of them empty.

    Attributes:
      sentences: int64 [S+1], offsets into the tokens.
      documents: int64 [D+1], offsets into the sentences.
    """

    sentences: np.ndarray
    documents: np.ndarray

    @staticmethod
    def of(store: TokenStore, creation: Creation) -> _Corpus:
        corpus = _Corpus.read(store)
        if len(corpus.documents) < 2:
            raise UserError(
                f"the {store.split} split of {store.path} has no text; expected documents: prepare "
                "more text with `gptbert prepare-corpus --input='GLOB'`"
            )
        if creation.pairs and not corpus.has_pairs:
            raise UserError(_without_pairs(store))
        return corpus

    @staticmethod
    def read(store: TokenStore) -> _Corpus:
        sentences = _ascending(store.sentence_starts)
        bounds = np.searchsorted(sentences, store.sentence_starts[store.document_starts])
        return _Corpus(sentences, _ascending(bounds))

    @property
    def has_pairs(self) -> bool:
        """Whether a document has two sentences."""
        return bool((np.diff(self.documents) > 1).any())

    def reach(self, begin: np.ndarray, end: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """The sentence before which at least `goal` tokens since `begin` lie; `end` at most.

        At least one sentence is taken, however little is wanted.
        """
        found = np.searchsorted(self.sentences, self.sentences[begin] + goal)
        return np.clip(found, begin + 1, end)


def has_pairs(store: TokenStore) -> bool:
    """Whether a split has a document of two sentences, which next sentence prediction needs."""
    return _Corpus.read(store).has_pairs


def _without_pairs(store: TokenStore) -> str:
    found = (
        f"no document in the {store.split} split of {store.path} has two sentences, which next "
        "sentence prediction needs"
    )
    if store.tokenizer_kind != "wordpiece":
        return (
            f"{found}: sentences are kept apart for a tokenizer with [CLS], [SEP] and [MASK] "
            f"(wordpiece, or sentencepiece as trained here), and this store's is "
            f"{store.tokenizer_kind}; expected a store made with one of these, or "
            "--config.objective=mlm"
        )
    helps = (
        "a larger --held_out"
        if store.split == "heldout"
        else "another --format (text takes a file as one document, paragraphs what stands between "
        "blank lines)"
    )
    return (
        f"{found}: each document ({store.documents:,}) has one sentence; expected a store of "
        f"longer documents, prepared with {helps}, or --config.objective=mlm"
    )


def _ascending(offsets: np.ndarray) -> np.ndarray:
    """Offsets that never fall, without repetitions (`np.unique` takes 20 times as long)."""
    return offsets[np.concatenate([[True], np.diff(offsets) > 0])]


def _targets(corpus: _Corpus, creation: Creation, keys: np.ndarray) -> np.ndarray:
    """int64 [D], tokens that a document's examples shall have in this pass (one draw for all).

    A document's draw is uniform, but draws are not independent: documents lie around a circle in
    random order, each as long as its text, which is turned by a random angle. So short targets
    fall on the same share of the text in every pass, spread over all values, where independent
    draws would cut up no book in one pass and the longest one in another.
    """
    limit = creation.length - creation.specials
    sizes = np.diff(corpus.sentences[corpus.documents])
    order = np.argsort(draws.bits(keys[_ORDER], np.arange(len(sizes))))
    middles = np.empty(len(sizes))
    middles[order] = np.cumsum(sizes[order]) - sizes[order] / 2
    drawn = (middles / sizes.sum() + draws.uniform(draws.bits(keys[_ANGLE], 0))) % 1.0
    short = drawn < creation.short_share
    # No division by a share of 0: then nothing is short.
    spread = drawn / max(creation.short_share, 1e-9)
    return np.where(short, 2 + (np.minimum(spread, 1) * (limit - 1)).astype(np.int64), limit)


def _pairs(corpus: _Corpus, creation: Creation, keys: np.ndarray) -> Instances:
    """Step 3 and 4 of the script."""
    targets = _targets(corpus, creation, keys)
    documents = np.arange(len(targets))
    at, rounds = corpus.documents[:-1], []
    while len(documents):
        end, goal = corpus.documents[documents + 1], targets[documents]
        stop = corpus.reach(at, end, goal)
        # A chunk is known by its first sentence: no two chunks of a pass have the same.
        split = at + 1 + draws.below(draws.bits(keys[_SPLIT], at), stop - at - 1)
        alone = stop - at == 1
        random = alone | (draws.uniform(draws.bits(keys[_KIND], at)) < 0.5)
        begin, finish = split.copy(), stop.copy()
        here = np.flatnonzero(random)
        wanted = goal[here] - (corpus.sentences[split[here]] - corpus.sentences[at[here]])
        begin[here], finish[here] = _elsewhere(corpus, keys, documents[here], at[here], wanted)
        rounds.append((at, split, begin, finish, random))
        # What a random second text replaced is put back: the next chunk begins with it.
        at = np.where(random, split, stop)
        left = at < end
        documents, at = documents[left], at[left]
    *ends, random = (np.concatenate(each) for each in zip(*rounds, strict=True))
    first, second = (corpus.sentences[np.stack(ends[k : k + 2], axis=1)] for k in (0, 2))
    cut = _truncate(first, second, creation.length - creation.specials, int(keys[0]))
    return Instances(first, second, random, creation.specials, cut)


def _elsewhere(
    corpus: _Corpus, keys: np.ndarray, documents: np.ndarray, at: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sentences [begin, finish) of another document each, from a random one on."""
    count = len(corpus.documents) - 1
    other = documents.copy()
    for attempt in range(_OTHER_DOCUMENT_DRAWS):
        same = np.flatnonzero(other == documents)
        if not len(same) or count == 1:
            break
        other[same] = draws.below(draws.bits(keys[_DOCUMENT + attempt], at[same]), count)
    start, end = corpus.documents[other], corpus.documents[other + 1]
    begin = start + draws.below(draws.bits(keys[_START], at), end - start)
    return begin, corpus.reach(begin, end, wanted)


def _truncate(first: np.ndarray, second: np.ndarray, limit: int, key: int) -> int:
    """Cuts pairs of stretches in place to `limit` tokens; returns how many were cut off.

    One token at a time is taken from the longer side (the second on ties), from its front or its
    back with equal chance: so what each side loses is given, and how much of it in front is
    binomial.
    """
    a, b = first[:, 1] - first[:, 0], second[:, 1] - second[:, 0]
    over = np.flatnonzero(a + b > limit)
    kept_a = np.minimum(a[over], np.maximum(limit - b[over], limit - limit // 2))
    generator = np.random.Generator(np.random.Philox(draws.key(key, "truncation")))
    for side, lost in ((first, a[over] - kept_a), (second, b[over] - limit + kept_a)):
        front = generator.binomial(lost, 0.5)
        side[over, 0] += front
        side[over, 1] -= lost - front
    return int((a[over] + b[over] - limit).sum())


def _singles(corpus: _Corpus, creation: Creation, keys: np.ndarray) -> Instances:
    """Stretches of a document, one after another, each as long as an example can be.

    Where a document has a short target, sentences until it is reached, as for pairs.
    """
    limit = creation.length - creation.specials
    targets = _targets(corpus, creation, keys)
    documents = np.arange(len(targets))
    bounds = corpus.sentences[corpus.documents]
    at, rounds = bounds[:-1], []
    while len(documents):
        end = bounds[documents + 1]
        reached = np.searchsorted(corpus.sentences, np.minimum(at + targets[documents], end))
        stop = np.minimum(corpus.sentences[reached], at + limit)
        rounds.append(np.stack([at, stop], axis=1))
        left = stop < end
        documents, at = documents[left], stop[left]
    first = np.concatenate(rounds)
    return Instances(first, np.zeros_like(first), np.zeros(len(first), bool), creation.specials, 0)
