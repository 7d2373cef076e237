"""medground: find, in a chest X-ray, the place that the words of a report speak of."""

__version__ = "0.3.0"
