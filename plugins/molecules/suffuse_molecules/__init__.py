"""Molecules for Suffuse: the encoder, denoiser, process, evaluators and renderer of this domain."""
