"""Stands in for torchvision in the process that runs ultralytics, and nowhere else.

ultralytics asks for torchvision's version and its `ops.nms`, and a CPU build of torch has no torchvision that
fits it on the package index. The suppression is ultralytics' own, written in torch alone.
"""

from torchvision import ops

__version__ = "0.28.0"
__all__ = ["ops"]
