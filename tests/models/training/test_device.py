"""Device, and the setting for denormal numbers."""

import pytest
import torch

from common.errors import TrainingError
from models.training.device import flush_denormals, resolve_device

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("one_thread")]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_refused() -> None:
    """A GPU that is requested and absent is an error; the best device there is (auto) is not."""
    with pytest.raises(TrainingError, match="torch sees no GPU"):
        resolve_device("cuda")
    assert resolve_device("auto") == torch.device("cpu")


def test_denormal_numbers_are_flushed_inside_and_kept_outside() -> None:
    """Half of the smallest normal number is 0 inside the block, and itself before and afterwards."""
    smallest = torch.full((8,), torch.finfo(torch.float32).tiny)
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot flush denormal numbers")
    assert (smallest / 2 > 0).all()
    with flush_denormals():
        assert (smallest / 2 == 0).all()
    assert (smallest / 2 > 0).all()
