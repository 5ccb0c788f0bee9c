"""Sounds for Suffuse: made, cleaned and completed."""

from suffuse_audio.sound import Sound

__all__ = ["Sound"]
