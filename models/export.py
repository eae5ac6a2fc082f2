"""Command: a trained network as programs of torch.export and AOTInductor, which run without this project."""

from pathlib import Path

from common import stage
from common.paths import EXPORT, MODEL


def export(*, model: Path = MODEL, out: Path = EXPORT, compiled: bool = True) -> None:
    """Export the network of a model folder: from encoded rows to logits, for any number of rows.

    Each program is loaded again, and its logits are compared with those of the network: more than 1e-5 is an error.

    Args:
        model: the model folder.
        out: the folder that is written; an earlier one is replaced.
        compiled: whether the network is compiled with AOTInductor, too, which needs a C++ compiler and a minute.
    """
    import torch

    from models.inference.exported import write_export

    torch.set_num_threads(stage.threads())
    written = write_export(model, out, compiled=compiled)
    for name, difference in written["largest_difference"].items():
        print(f"{out / name}: logits of {written['model']} {written['tag']} to {difference:.0e}", flush=True)
    if compiled and written["not_compiled"]:
        print(f"not compiled with AOTInductor: {written['not_compiled']}", flush=True)


if __name__ == "__main__":
    stage.run(export)
