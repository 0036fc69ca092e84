"""Marks that everybody sees: claims on effects, and semantic locks."""
