"""Pre-training that is scored on documents of a store of their own."""

import pytest

from gptbert.corpora.prepare import Request, prepare_corpus
from gptbert.datasets.documents import document_hash, is_held_out
from gptbert.errors import UserError
from gptbert.pipeline.store import TokenStore
from gptbert.runs.assemble_pretraining import assemble_pretraining
from gptbert.runs.pretrain import pretrain
from tests.fixtures_pretraining import make_text_store, tiny_config
from tests.fixtures_runs import WORDS
from tests.tiny_store import make_store

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("quickly")]

EVERYTHING = 10**6


@pytest.fixture(scope="module")
def other_store(tmp_path_factory):
    """Documents that nobody trains on, some of them in the split `train`."""
    return make_text_store(tmp_path_factory.mktemp("other") / "store", 6, 3, seed=9)


def test_the_whole_store_is_scored_instead_of_the_corpus_own_share(text_store, other_store):
    config = tiny_config(
        "test-gpt2", text_store, held_out_corpus=str(other_store), eval_tokens=EVERYTHING
    )
    held_out = assemble_pretraining(config).held_out
    splits = [TokenStore.open(other_store, split) for split in ("train", "heldout")]
    # Each document ends with a token of its own where the tokenizer has one; this one has none.
    assert held_out.predictions == sum(store.tokens - 1 for store in splits)
    own = assemble_pretraining(tiny_config("test-gpt2", text_store, eval_tokens=EVERYTHING))
    assert own.held_out.predictions == TokenStore.open(text_store, "heldout").tokens - 1


def test_a_run_knows_what_it_is_scored_on(text_store, other_store, tmp_path):
    changes = {"steps": 2, "warmup_steps": 1, "held_out_corpus": str(other_store)}
    config = tiny_config("test-bert", text_store, **changes)
    found = pretrain(config, tmp_path / "run", quiet=True)
    assert found["metrics"]["loss"] > 0
    another = make_text_store(tmp_path / "another", 6, 3, seed=10)
    changes["held_out_corpus"] = str(another)
    with pytest.raises(UserError, match=rf"the held-out corpus 0 \({another}\) changed"):
        pretrain(tiny_config("test-bert", text_store, **changes), tmp_path / "run", quiet=True)


def test_text_that_is_trained_on_is_refused(text_store):
    config = tiny_config("test-bert", text_store, held_out_corpus=str(text_store))
    with pytest.raises(UserError, match="is trained on too"):
        assemble_pretraining(config)


def test_another_tokenizer_is_refused(text_store, tmp_path):
    make_store(tmp_path / "odd", [[[1, 2, 3]]])
    config = tiny_config("test-bert", text_store, held_out_corpus=str(tmp_path / "odd"))
    with pytest.raises(UserError, match="another tokenizer"):
        assemble_pretraining(config)


@pytest.fixture
def single_sentences(text_store, tmp_path):
    """A store whose held-out documents have a sentence each, the others five."""
    lines = [f"{' '.join(WORDS[n % 9 : n % 9 + 3])} {WORDS[n // 9]} ." for n in range(54)]
    documents = []
    for n, line in enumerate(lines):
        text = "\n".join(lines[n : n + 5])
        if is_held_out(document_hash(line), 0.3):
            documents.append(line)
        elif n < 40 and not is_held_out(document_hash(text), 0.3):
            documents.append(text)
    (tmp_path / "texts").write_text("\n\n".join(documents))
    request = Request(
        str(text_store / "tokenizer"), (str(tmp_path / "texts"),), str(tmp_path / "single"),
        format="paragraphs", held_out=0.3, workers=1,
    )  # fmt: skip
    report = prepare_corpus(request, quiet=True)
    assert report["heldout"]["documents"] > 2
    return tmp_path / "single"


def test_a_held_out_share_without_pairs_is_not_scored(single_sentences, text_store):
    made = assemble_pretraining(tiny_config("test-bert", single_sentences))
    assert made.held_out is None
    assert [note for note in made.notes if "heldout split" in note and "one sentence" in note]
    both = tiny_config("test-bert", single_sentences, corpus=f"{single_sentences},{text_store}")
    made = assemble_pretraining(both)
    assert made.held_out.examples > 0
    assert len([note for note in made.notes if "one sentence" in note]) == 1
    alone = assemble_pretraining(tiny_config("test-bert", single_sentences, objective="mlm"))
    assert alone.held_out.examples > 2 and not alone.notes
