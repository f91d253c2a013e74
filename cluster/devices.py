"""The GPUs of this host and their free memory, asked of the drivers: no torch, which would take memory on each to tell."""

import os
import shutil
import subprocess
from pathlib import Path

from ossia.common.errors import UserError

DRM = Path("/sys/class/drm")
MIB = 1 << 20
TIMEOUT_S = 20.0


def gpus(drm: Path = DRM) -> list[int]:
    """Free bytes of each GPU, NVIDIA's or else AMD's; empty where there is none or CUDA_VISIBLE_DEVICES is empty.

    Raises UserError where the driver does not answer.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return []
    return _nvidia() or _amd(drm)


def _nvidia() -> list[int]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
        return [int(line) * MIB for line in done.stdout.split()]
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        raise UserError(
            f"nvidia-smi does not tell the free memory of the GPUs ({error}); mend the driver or remove it"
        ) from error


def _amd(drm: Path) -> list[int]:
    """Names as the amdgpu driver documents them: https://docs.kernel.org/gpu/amdgpu/driver-misc.html"""
    if shutil.which("rocminfo") is None:
        return []  # a desktop's graphics, not ROCm
    totals = sorted(drm.glob("card*/device/mem_info_vram_total"))
    return [int(total.read_text()) - int(total.with_name("mem_info_vram_used").read_text()) for total in totals]
