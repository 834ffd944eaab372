"""Readers of event files, one format each."""
