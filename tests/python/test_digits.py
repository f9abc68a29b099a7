# SPDX-License-Identifier: MIT
"""The ternary digit reader of examples/digits: at least 95 % held out, and no collapse."""
import sys

import numpy as np
import pytest

import rotor.ternary


@pytest.fixture(scope="module")
def digits(source_root):
    sys.path.insert(0, str(source_root / "examples" / "digits"))
    import digits
    return digits


def test_ten_epochs(digits):
    net = digits.NumpyNet([64, 256, 256, 10], seed=1)
    shares = []
    for epoch, loss, share, mlp in digits.train(net, seed=1, epochs=10):
        print("epoch %d: loss %.3f, held out %.2f %% (before: 88.13 %%)" % (epoch, loss, 100 * share))
        shares.append(share)
    assert shares[-1] >= 0.95 and min(shares[4:]) >= 0.94        # whatever the last bits of this NumPy's sums
    stats = mlp.stats
    assert stats["n_weights"] == 64 * 256 + 256 * 256 + 256 * 10 and stats["weight_bytes"] < stats["float_bytes"] / 12


def test_the_library_computes_what_was_trained(digits):
    net = digits.NumpyNet([64, 48, 10], seed=4)
    x = digits.data(4)[1][0][:50]
    net.loss(x, np.zeros(50, int))
    want = x
    for layer in net.layers:
        want = layer.forward(want)
    got = digits.in_the_library(net)(x)
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


def test_the_gradient_is_the_straight_through_one(digits):
    """With the codes held still the network is linear in what they stand for: a slope tells."""
    rng = np.random.default_rng(3)
    layer = digits.Ternary(rng, 12, 5, relu=False)
    x, dy = rng.standard_normal((4, 12)).astype(np.float32), rng.standard_normal((4, 5)).astype(np.float32)
    y = layer.forward(x)
    dx = layer.backward(dy)
    assert np.allclose(y, layer.xq @ layer.wq.T, atol=1e-5)
    assert np.allclose(dx, dy @ layer.wq, atol=1e-6) and np.allclose(layer.dw, dy.T @ layer.xq, atol=1e-5)


def test_the_network_refuses_wrong_shapes():
    mlp = rotor.ternary.Mlp(4)
    with pytest.raises(ValueError, match="expected"):
        mlp.add(np.zeros((3, 5)))
    with pytest.raises(ValueError, match="bias"):
        mlp.add(np.zeros((3, 4)), np.zeros(2))
    with pytest.raises(ValueError, match="inputs"):
        mlp.add(np.ones((3, 4)))(np.zeros(3))
    assert mlp(np.ones(4, np.float32)).shape == (3,)


def test_quantisers():
    codes, scale = rotor.ternary.absmean([[1.5, -0.5], [-1.5, 0.5]])
    assert codes.tolist() == [[1, 0], [-1, 0]] and scale == 1
    codes, step = rotor.ternary.int8([127, 0.5, 1.5, -126.5])
    assert codes.tolist() == [127, 0, 2, -126] and step == 1
