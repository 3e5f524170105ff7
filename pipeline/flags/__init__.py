"""Flags → what was asked."""
