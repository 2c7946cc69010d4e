"""The models that can be requested: ``models.toml``, files dropped into its folders, and where weights are stored."""

from inference.catalog.catalog import Catalog
from inference.catalog.table import CatalogError

__all__ = ["Catalog", "CatalogError"]
