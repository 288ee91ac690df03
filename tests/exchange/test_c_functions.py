"""The functions of an export to C99, compiled, against NumPy in double precision."""

import shutil
import subprocess

import numpy as np
import pytest
import torch

from memorycell.exchange.c_export import in_blocks
from memorycell.exchange.c_templates import FUNCTIONS

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")

MAIN = """
int main(void) {
    float x;
    while (fread(&x, sizeof x, 1, stdin) == 1) {
        const float y[] = {exponential(x), sigmoid(x), hyperbolic_tangent(x), softplus(x)};
        fwrite(y, sizeof *y, 4, stdout);
    }
    return 0;
}
"""


def values(folder, x: np.ndarray, *flags: str) -> np.ndarray:
    """[4, n] float64: exp, sigmoid, tanh and softplus of x."""
    names = ("exponential", "sigmoid", "hyperbolic_tangent", "softplus")
    code = "".join(FUNCTIONS[name].substitute() for name in ("choose", *names))
    include = "".join(f"#include <{name}.h>\n" for name in ("math", "stdint", "stdio"))
    (folder / "f.c").write_text(include + code + MAIN)
    strict = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
    command = ["gcc", *strict, *flags, "f.c", "-lm", "-o", "f"]
    subprocess.run(command, cwd=folder, check=True, timeout=600)
    raw = subprocess.run(
        [folder / "f"],
        input=x.astype("<f4").tobytes(),
        capture_output=True,
        check=True,
        timeout=600,
    ).stdout
    return np.frombuffer(raw, "<f4").reshape(-1, 4).T.astype(np.float64)


@pytest.mark.parametrize("flags", ["-O2 -fsanitize=undefined,float-cast-overflow", "-O3"])
def test_values(tmp_path, flags):
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [
            np.linspace(-86.9, 87.9, 100_001),
            rng.normal(size=50_000),
            10.0 ** np.linspace(-30, 0, 20_001),
            -(10.0 ** np.linspace(-30, 0, 20_001)),
        ]
    )
    x = x.astype(np.float32).astype(np.float64)
    exp, sigmoid, tanh, softplus = values(tmp_path, x, *flags.split(), "-fno-sanitize-recover")
    np.testing.assert_allclose(exp, np.exp(x), rtol=2e-7)
    np.testing.assert_allclose(sigmoid, 1 / (1 + np.exp(-x)), rtol=3e-7, atol=1e-37)
    np.testing.assert_allclose(tanh, np.tanh(x), rtol=3e-7)
    np.testing.assert_allclose(softplus, np.logaddexp(0, x), rtol=3e-7, atol=1e-37)


def test_extremes(tmp_path):
    x = np.array([np.inf, -np.inf, 3e38, -3e38, 0.0, -0.0, np.nan])
    exp, sigmoid, tanh, softplus = values(tmp_path, x, "-O2", "-fsanitize=undefined")
    assert exp[0] == exp[2] > 1e38
    assert 0 < exp[1] == exp[3] < 2e-38
    np.testing.assert_allclose(sigmoid[:6], [1, 0, 1, 0, 0.5, 0.5], atol=1e-37)
    np.testing.assert_array_equal(tanh[:6], [1, -1, 1, -1, 0, 0])
    np.testing.assert_allclose(
        softplus[:6], [np.inf, 0, 3e38, 0, np.log(2), np.log(2)], rtol=1e-6, atol=2e-38
    )
    assert np.isnan([exp[6], sigmoid[6], tanh[6]]).all()


PRODUCT_MAIN = """
int main(void) {
    int sizes[2];
    while (fread(sizes, sizeof *sizes, 2, stdin) == 2) {
        const int rows = sizes[0], columns = sizes[1], all = rows * columns + rows + columns;
        float *w = malloc(all * sizeof *w), *out = malloc(rows * sizeof *out);
        if (fread(w, sizeof *w, all, stdin) != (size_t)all)
            return 1;
        product_blocks(w, w + rows * columns, rows, columns, w + rows * columns + rows, out);
        fwrite(out, sizeof *out, rows, stdout);
        free(w);
        free(out);
    }
    return 0;
}
"""
"""Reads rows, columns, w, bias and a; several times."""
SIZES = [(1, 1), (15, 3), (16, 1), (16, 8), (17, 7), (35, 9), (64, 33), (96, 16)]


@pytest.mark.parametrize(
    "flags", ["-O2", "-O2 -U__SSE__", "-O3 -march=native", "-O1 -fsanitize=undefined,address"]
)
def test_products_of_blocks(tmp_path, flags):
    rng = np.random.default_rng(0)
    given, expected = b"", []
    for rows, columns in SIZES:
        w, bias, a = (
            rng.normal(size=size).astype("<f4") for size in ((rows, columns), rows, columns)
        )
        data = (in_blocks(torch.from_numpy(w)).numpy(), bias, a)
        given += np.array([rows, columns], "<i4").tobytes() + b"".join(v.tobytes() for v in data)
        expected.append(w.astype(np.float64) @ a + bias)
    include = "".join(f"#include <{name}.h>\n" for name in ("stdio", "stdlib"))
    code = "".join(FUNCTIONS[name].substitute() for name in ("product", "product_blocks"))
    (tmp_path / "p.c").write_text(include + code + PRODUCT_MAIN)
    strict = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
    command = ["gcc", *strict, *flags.split(), "p.c", "-o", "p"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=600)
    found = subprocess.run(
        [tmp_path / "p"], input=given, capture_output=True, check=True, timeout=600
    )
    np.testing.assert_allclose(
        np.frombuffer(found.stdout, "<f4"), np.concatenate(expected), rtol=1e-5, atol=1e-5
    )
