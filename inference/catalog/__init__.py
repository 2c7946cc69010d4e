"""What may be asked for: ``models.toml`` and what was dropped into its folders, and where the weights lie."""

from inference.catalog.catalog import Catalog
from inference.catalog.table import CatalogError

__all__ = ["Catalog", "CatalogError"]
