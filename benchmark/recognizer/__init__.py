"""The network that reads the six factors from an image: used, trained, evaluated, shipped.

The names below load on first use: whoever reads images loads nothing of the training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "card": ["Accuracy", "RecognizerCard"],
        "evaluate": ["evaluate_recognizer"],
        "network": ["NetworkConfig", "RecognitionNetwork"],
        "reader": ["Reader", "count_bins", "read_factors", "read_pieces"],
        "recognizer": ["Recognizer", "load_recognizer"],
        "train": ["train_recognizer"],
    },
)

if TYPE_CHECKING:
    from .card import Accuracy as Accuracy
    from .card import RecognizerCard as RecognizerCard
    from .evaluate import evaluate_recognizer as evaluate_recognizer
    from .network import NetworkConfig as NetworkConfig
    from .network import RecognitionNetwork as RecognitionNetwork
    from .reader import Reader as Reader
    from .reader import count_bins as count_bins
    from .reader import read_factors as read_factors
    from .reader import read_pieces as read_pieces
    from .recognizer import Recognizer as Recognizer
    from .recognizer import load_recognizer as load_recognizer
    from .train import train_recognizer as train_recognizer
