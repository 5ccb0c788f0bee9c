"""Text for Suffuse: prompts as conditions of any model."""
