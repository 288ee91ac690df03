"""Code in a process of its own that may use little memory besides that of what it imports."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

needs_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="limits of memory as Linux has them"
)
LIMIT = """
torch.set_num_threads(1)
torch.nn.Linear(64, 64)(torch.ones(64, 64)).sum().backward()  # its buffers
used = next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmData"))
limit = used * 1024 + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
"""


def printed(imports: str, code: str, data: object, limit: int, *, too_large: object) -> list[str]:
    """The words that code prints, which reads the path of the data from `sys.argv[1]`, with `limit`
    bytes more than after the imports. RLIMIT_DATA counts all memory but that of mapped files. With
    `too_large` instead of the data it must end for want of memory.
    """
    done, failed = (_run(imports, code, path, limit) for path in (data, too_large))
    assert done.returncode == 0, done.stderr[-2000:]
    assert failed.returncode
    assert "MemoryError" in failed.stderr or "memory allocation" in failed.stderr
    return done.stdout.split()


def _run(imports: str, code: str, data: object, limit: int) -> subprocess.CompletedProcess[str]:
    script = f"import resource, sys\nimport torch\n{imports}\n{LIMIT}\n{code}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    words = [sys.executable, "-c", script, str(data), str(limit)]
    return subprocess.run(words, capture_output=True, text=True, env=environment)
