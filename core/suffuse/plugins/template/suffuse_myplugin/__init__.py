"""Waves for Suffuse."""
