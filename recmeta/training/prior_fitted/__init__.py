"""Fits the prior of `recmeta.metalearn.prior_fitted` to synthetic logs."""
