"""The trainers' own readers open what `mga budget pack` writes: datatrove's (nanotron) and megatron-core's.

They need torch and stand in an environment of their own (make test-readers).
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import orjson
import pytest
from test_budget_pack import SEQUENCE, packed, work  # noqa: F401

from mga.packing.packed import open_packed

PYTHON = os.environ.get("MGA_TEST_READERS", "")
pytestmark = [pytest.mark.readers, pytest.mark.skipif(not PYTHON, reason="make test-readers")]

READ = """
import json, sys
from pathlib import Path
train, sequence = Path(sys.argv[1]), int(sys.argv[2])
from datatrove.utils.dataset import DatatroveFolderDataset, DatatroveFileDataset
one = DatatroveFileDataset(str(train / "00000.ds"), sequence - 1, token_size=2, return_positions=True)
items = [one[i] for i in range(len(one))]
folder = DatatroveFolderDataset(str(train), sequence - 1, filename_pattern="*.ds", token_size=2, shuffle=False)
from megatron.core.datasets.indexed_dataset import IndexedDataset
megatron = IndexedDataset(str(train / "00000"))
print(json.dumps({
    "datatrove": [item["input_ids"].tolist() for item in items],
    "positions": [item["positions"].tolist() for item in items],
    "folder": len(folder),
    "megatron": [megatron[i].tolist() for i in range(len(megatron))],
    "dtype": str(megatron.index.dtype), "documents": megatron.document_indices.tolist(),
}))
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("packing", ["best-fit", "concatenate"])
def test_their_readers_read_our_tokens_and_our_documents(
    work: Path,  # noqa: F811
    tmp_path: Path,
    packing: str,
) -> None:
    out = packed(work, tmp_path / "out", pack={"packing": packing})
    data = open_packed(out)
    done = subprocess.run(
        [PYTHON, "-W", "ignore", "-c", READ, str(out / "train"), str(SEQUENCE)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    read = orjson.loads(done.stdout.splitlines()[-1])
    count = len(read["datatrove"])
    ours = [data[i].tolist() for i in range(count)]
    assert read["datatrove"] == ours
    assert read["folder"] == len(data)
    assert np.concatenate(read["megatron"]).tolist() == np.concatenate(ours).tolist()
    assert read["documents"] == list(range(len(read["megatron"]) + 1))
    assert "uint16" in read["dtype"]
    for i, positions in enumerate(read["positions"]):
        documents = data.documents(i)
        inside = np.flatnonzero(np.diff(documents, prepend=documents[0]) == 0)[1:]
        begins = np.flatnonzero(np.diff(documents, prepend=-2) > 0)[1:]
        assert all(positions[j] == positions[j - 1] + 1 for j in inside)
        assert all(positions[j] == 0 for j in begins)
    if packing == "best-fit":
        assert read["megatron"] == ours
    else:
        separator = int(data[0][data.documents(0) == 0][-1])
        assert all(ids[-1] == separator for ids in read["megatron"])
