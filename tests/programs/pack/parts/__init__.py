from .model import build
from .state import META, bump

__all__ = ["META", "build", "bump"]
