"""Video for Suffuse."""
