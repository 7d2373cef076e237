"""Abilities of this machine's processor."""

import logging
from pathlib import Path

log = logging.getLogger(__name__)
CPU_INFO = Path("/proc/cpuinfo")  # of Linux


def has_amx(info: Path = CPU_INFO) -> bool | None:
    """Return whether the processor has AMX, which multiplies tiles in bfloat16; None if that is unknown."""
    try:
        return "amx_bf16" in info.read_text().split()
    except OSError:
        return None


def warn_if_bf16_is_slow(option: str, faster: str) -> None:
    """Warn about an option that makes this processor compute in bfloat16, if another value is faster."""
    if has_amx() is False:
        log.warning("%s: bfloat16 is slow on a CPU without AMX; %s is faster", option, faster)
