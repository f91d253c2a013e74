"""A kernel is chosen by what it needs, and nothing takes the place of a missing one."""

import pytest
import torch

from ossia.common.errors import UserError
from workers.kernels import onednn
from workers.kernels.table import ATTENTION, EXPERTS, LINEAR, choose

CPU = torch.device("cpu")


def test_layout_decides() -> None:
    assert choose(EXPERTS, CPU, torch.float32, "packed").name == "torch-mxfp4"
    assert choose(EXPERTS, CPU, torch.float32, "dense").name == "torch-dense"
    assert choose(ATTENTION, CPU, torch.bfloat16, "paged").name == "torch-paged"


def test_deterministic_rows_are_chosen_where_asked_for() -> None:
    assert choose(EXPERTS, CPU, torch.float32, "packed", deterministic=True).name == "torch-mxfp4-tiles"
    assert choose(EXPERTS, CPU, torch.float32, "dense", deterministic=True).name == "torch-dense-tiles"
    assert choose(ATTENTION, CPU, torch.bfloat16, "paged", deterministic=True).name == "torch-splits"
    assert choose(LINEAR, CPU, torch.bfloat16, "dense", deterministic=True).name == "torch-linear-tiles"


@pytest.mark.parametrize("here", [True, False])
def test_what_the_host_lacks_is_not_chosen(here: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "supported", lambda: here)
    assert choose(EXPERTS, CPU, torch.bfloat16, "dense").name == ("onednn-dense" if here else "torch-dense")
    assert choose(LINEAR, CPU, torch.bfloat16, "dense").name == ("onednn-linear" if here else "torch-linear")
    assert choose(LINEAR, torch.device("cuda"), torch.bfloat16, "dense").name == "torch-linear"


def test_no_row_is_an_error() -> None:
    with pytest.raises(UserError, match=r"no kernel for packed operands in torch.float16 on cpu; there are torch-mxfp4"):
        choose(EXPERTS, CPU, torch.float16, "packed")
    with pytest.raises(
        UserError, match=r"no deterministic kernel for paged operands in torch.float32 on cpu; there are torch-p"
    ):
        choose(ATTENTION[:1], CPU, torch.float32, "paged", deterministic=True)
