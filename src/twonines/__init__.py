"""Industrial visual inspection: teach, export, serve, score and prove."""

__version__ = "0.1.0"

__all__ = ["__version__"]
