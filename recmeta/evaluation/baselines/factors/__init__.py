"""Factorisations whose new users are folded in."""
