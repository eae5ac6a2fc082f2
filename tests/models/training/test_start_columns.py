"""A training that begins in a model of other input columns: they are mapped by name, or refused."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from common.errors import TrainingError
from features.encoding.encoder import Encoder
from models.model_folder import NETWORKS, read_model
from models.train import train
from tests.support import world
from tests.support.training import logits_of, train_settings
from tests.support.warm_start import started, today_of, use, with_number, write_yesterday

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("one_thread")]
NOT_EXCLUSIVE = ("star", "pepnet")  # networks that read the features of a row beside other inputs


@pytest.fixture(scope="module")
def yesterday(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The arguments of a training of the tiny world, and the `model` that it made."""
    return write_yesterday(tmp_path_factory.mktemp("yesterday"))


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in NOT_EXCLUSIVE])
def test_columns_are_mapped_by_name(
    yesterday: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """With new columns, and the old ones in another order, the network begins as the function that it was."""
    use(monkeypatch, epochs=1, batch_size=512)
    arguments = {key: path for key, path in yesterday.items() if key != "model"}
    train(model=name, out=tmp_path / "old", **arguments)
    old = read_model(tmp_path / "old")
    today = today_of(yesterday, name, encoder=with_number(old.encoder), columns="map")
    network, said = started(tmp_path / "old", today)
    assert said["columns"] == {"added": ["brand", "price"]}
    events = world.tables(rows=200)["events"]
    more = events.assign(brand=["a", "b"] * 100, price=np.linspace(-3, 3, 200, dtype="float32"))
    plain, wide = (pa.Table.from_pandas(frame, preserve_index=False) for frame in (events, more))
    np.testing.assert_allclose(
        logits_of(network, today.encoder.encode(wide)), logits_of(old.network, old.encoder.encode(plain)), atol=2e-6
    )


@pytest.mark.parametrize("name", NOT_EXCLUSIVE)
def test_networks_whose_columns_are_read_with_others_are_refused(
    yesterday: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The message names the weights; without other columns these networks begin in a model as all do."""
    use(monkeypatch, epochs=1, batch_size=512)
    train(model=name, out=tmp_path / "old", **{key: path for key, path in yesterday.items() if key != "model"})
    old = read_model(tmp_path / "old")
    network, _ = started(tmp_path / "old", today_of(yesterday, name))
    assert all(torch.equal(weights, old.network.state_dict()[key]) for key, weights in network.state_dict().items())
    with pytest.raises(TrainingError, match=rf"a {name} cannot be mapped by column: .* beside other inputs"):
        started(tmp_path / "old", today_of(yesterday, name, encoder=with_number(old.encoder), columns="map"))


def test_weights_of_pairs_of_columns_are_refused(
    yesterday: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A factorization machine has a weight for every two columns, which does not say whose it is."""
    shape = train_settings().hinet.model_copy(update={"interactions": ["fm"]})
    use(monkeypatch, epochs=1, hinet=shape)
    train(model="hinet", out=tmp_path / "old", **{key: path for key, path in yesterday.items() if key != "model"})
    encoder = with_number(Encoder.read(yesterday["encoder"]))
    today = today_of(yesterday, encoder=encoder, columns="map")
    today.arguments["config"]["interactions"] = ["fm"]
    with pytest.raises(
        TrainingError, match=r"cannot be mapped by column: additions\.interactions\.fm\.pairs depends on the"
    ):
        started(tmp_path / "old", today)


def test_a_column_that_is_gone_is_left_out(yesterday: dict[str, Path]) -> None:
    """The weights of the others are those of yesterday, where they stand today."""
    old = read_model(yesterday["model"])
    columns = tuple(column for column in old.encoder.columns if column.name != "hour")
    vocabularies = {name: values for name, values in old.encoder.vocabularies.items() if name != "hour"}
    encoder = dataclasses.replace(old.encoder, columns=columns, vocabularies=vocabularies)
    network, said = started(yesterday["model"], today_of(yesterday, encoder=encoder, columns="map"))
    assert said["columns"] == {"removed": ["hour"]}
    width = old.network.embedding.weight.shape[1]
    at = [column.name for column in old.encoder.columns].index("hour") * width
    before, after = (one.integration.experts.layers[0].weight for one in (old.network, network))
    assert torch.equal(after, torch.cat([before[..., :at], before[..., at + width :]], dim=-1))
