"""Retouch in the browser: a REST server and the page it serves. Needs the extra `web`."""
