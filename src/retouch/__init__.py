"""Retouch: image inpainting."""
