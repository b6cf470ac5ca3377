"""The choice is the process's, so it is tried in one of its own."""

import platform
import subprocess
import sys


def test_freed_memory_is_kept_where_the_c_library_can():
    code = "from retouch.layers.host_memory import keep_freed_memory as f; print(f())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("True", "False")
    if platform.libc_ver()[0] == "glibc":
        assert done.stdout.strip() == "True"
