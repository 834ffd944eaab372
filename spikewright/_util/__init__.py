"""Helpers for every package: argument checks, formatting of text and sizes, snapshots of modules."""
