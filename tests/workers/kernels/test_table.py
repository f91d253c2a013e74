"""A kernel is chosen by what it needs, and nothing takes the place of a missing one."""

import pytest
import torch

from ossia.common.errors import UserError
from workers.kernels.table import ATTENTION, EXPERTS, choose

CPU = torch.device("cpu")


def test_layout_decides() -> None:
    assert choose(EXPERTS, CPU, torch.float32, "packed").name == "torch-mxfp4"
    assert choose(EXPERTS, CPU, torch.bfloat16, "dense").name == "torch-dense"
    assert choose(ATTENTION, CPU, torch.bfloat16, "paged").name == "torch-paged"


def test_no_row_is_an_error() -> None:
    with pytest.raises(UserError, match=r"no kernel for packed operands in torch.float16 on cpu; there are torch-mxfp4"):
        choose(EXPERTS, CPU, torch.float16, "packed")
