"""The functions of an export to C99, compiled, against NumPy in double precision."""

import shutil
import subprocess

import numpy as np
import pytest

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
    code = "".join(FUNCTIONS[name].substitute() for name in names)
    include = "".join(f"#include <{name}.h>\n" for name in ("math", "stdint", "stdio"))
    (folder / "f.c").write_text(include + code + MAIN)
    strict = ("-std=c99", "-Wall", "-Wextra", "-Werror")
    command = ["gcc", *strict, *flags, "f.c", "-lm", "-o", "f"]
    subprocess.run(command, cwd=folder, check=True, timeout=60)
    raw = subprocess.run(
        [folder / "f"], input=x.astype("<f4").tobytes(), capture_output=True, check=True, timeout=60
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
