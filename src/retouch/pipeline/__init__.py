"""Runs a network on a real picture: crops, working size, detail, compositing."""
