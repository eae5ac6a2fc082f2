"""Train a network with given values of parameters, and measure it on the validation rows. No test row is read."""

import contextlib
import hashlib
import io
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from common import stage
from common.errors import TrainingError
from common.files import sha256_of, sha256_of_folder
from common.train_params import Train
from features.encoding.encoder import Encoder
from features.encoding.tensors import open_tensors
from features.schema import mean_title, read_schema
from models.model_folder import NETWORKS, build_network
from models.training import configuration
from models.training.configuration import arguments_of, cell_weights, recipe_of
from models.training.device import flush_denormals, make_deterministic
from models.training.loop import fit
from models.training.loss import LossTerms
from models.training.row_age import age_rows, reads_age
from models.training.train_state import TrainState
from models.tuning.parameters import Values, settings_of
from models.tuning.space import KEPT, Space

Report = Callable[[int, float], None]  # the number of an epoch, and its validation mean
OWN = KEPT - {"train.seed"}  # parameters that change no trial


class DivergedError(Exception):
    """A training with these values cannot go on, such as one whose loss is not finite."""


class Fitting:
    """The rows of a data set, and the trainings of one network on them."""

    def __init__(
        self, model: str, plain: Mapping[str, Any], *, schema: Path, encoder: Path, tensors: Path, training: Path
    ) -> None:
        """Open the rows.

        Args:
            model: a name in models.model_folder.NETWORKS.
            plain: params.yaml.
            schema: schema.json of the data set.
            encoder: encoder.parquet.
            tensors: folder of the encoded rows, in `train` and `valid`.
            training: folder of train.parquet, read where the age of rows counts.
        """
        self.model, self.plain = model, plain
        self.schema, self.encoder = read_schema(schema), Encoder.read(encoder)
        self.rows = {split: open_tensors(tensors / split) for split in ("train", "valid")}
        self.training = training
        self.settings = self._settings({})  # an unknown network is refused here
        self.data = [sha256_of(schema), sha256_of(encoder), *(sha256_of_folder(tensors / split) for split in self.rows)]
        self.data += [sha256_of(training / "train.parquet")] if reads_age(self.settings) else []
        self.measure = mean_title(self.schema.tasks)
        self._warnings: set[str] = set()
        torch.set_num_threads(stage.threads())

    def _settings(self, values: Values) -> Train:
        """params.train with these values, and with the recipe of the network."""
        return configuration.settings_of(self.model, settings_of(self.plain, values))

    def study_name(self, space: Space) -> str:
        """The name of the study: another one for another network, space, data set, or value of another parameter."""
        train = self.plain["train"]
        others = {name: value for name, value in train.items() if name not in NETWORKS and f"train.{name}" not in OWN}
        fixed = _flat("train", others | {self.model: train[self.model]})
        fixed = {name: value for name, value in fixed.items() if name not in space.domains}
        text = json.dumps([space.digest, self.data, fixed], sort_keys=True)
        return f"{self.model}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def fit(self, values: Values, seed: int, report: Report) -> float:
        """Train with these values from new weights; the validation mean of the best epoch.

        `report` gets each epoch's mean, and may end the training by an exception. Raises DivergedError where the values
        are at fault.
        """
        settings = self._settings({**values, "train.seed": seed})
        reported = 0

        def observe(state: TrainState) -> None:
            nonlocal reported
            for epoch in state.epochs[reported:]:
                reported += 1
                report(epoch.number, epoch.valid_mean)

        with flush_denormals(), self._quiet():
            make_deterministic(seed)
            network = build_network(
                self.model, arguments_of(self.model, self.encoder.layout, self.schema.tasks, settings)
            )
            train = age_rows(self.rows["train"], self.training, self.schema.timestamp, settings)
            try:
                result = fit(
                    network,
                    train,
                    self.rows["valid"],
                    recipe_of(settings),
                    scenarios=self.schema.scenarios,
                    tasks=self.schema.tasks,
                    terms=LossTerms(cell_weights=cell_weights(self.schema, settings), targets=self.encoder.targets),
                    device=settings.device,
                    observe=observe,
                )
            except (TrainingError, torch.OutOfMemoryError) as error:
                raise DivergedError(str(error)) from error
        return result.best.valid_mean

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """Show neither bars nor lines of a training, and each of its warnings once in a search."""
        with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(io.StringIO()):
            try:
                with contextlib.redirect_stderr(io.StringIO()):
                    yield
            finally:
                texts = [str(warning.message) for warning in caught]
        for text in dict.fromkeys(texts):
            if text not in self._warnings:
                self._warnings.add(text)
                print(f"warning: {text}", file=sys.stderr, flush=True)


def _flat(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        return {name: value}
    return {inner: leaf for key, part in value.items() for inner, leaf in _flat(f"{name}.{key}", part).items()}
