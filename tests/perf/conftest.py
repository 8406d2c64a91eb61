"""What the speed comparisons share."""

import pytest
import torch


@pytest.fixture
def one_thread():
    """Both sides on one thread: the ratio is that of the work, not of how it is spread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
