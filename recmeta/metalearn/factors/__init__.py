"""Factorisations of a log, and regressions that predict an item's vector from its content."""
