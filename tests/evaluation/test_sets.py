"""Inception features and the distances of sets against TorchScript, SciPy and scikit-learn."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from streams import kernel, stream
from torch import Tensor

from retouch.evaluation import distributions
from retouch.evaluation.inception import Inception, _Unit, _units, resize_tf1
from retouch.weights.official import CheckpointError


def units(network: Inception) -> list[_Unit]:
    return [module for module in network.modules() if isinstance(module, _Unit)]


def script_state(network: Inception) -> dict[str, Tensor]:
    """The 376 tensors in the TorchScript file's order; unit n has tensors 4 n to 4 n + 3."""
    state: dict[str, Tensor] = {}
    for n, unit in enumerate(units(network)):
        channels = len(unit.offset)
        rest = (stream(1001 + 4 * n + k, channels) for k in range(3))
        offset, mean, variance = (torch.from_numpy(s.astype(np.float64)) for s in rest)
        state[f"net.{n}.weight"] = kernel(1000 + 4 * n, tuple(unit.conv.weight.shape))
        state[f"net.{n}.beta"] = (0.2 * offset - 0.1).float()
        state[f"net.{n}.mean"] = (0.2 * mean - 0.1).float()
        state[f"net.{n}.var"] = (0.5 + variance).float()
    return state


def test_inception_agrees_with_the_torchscript_file_s_code():
    network = Inception()
    state = script_state(network)
    assert len(state) == 376
    network.load(state)
    picture = torch.from_numpy(stream(3, 1, 3, 299, 299).astype(np.float32))
    with torch.inference_mode():
        features = network(picture)
    assert features.shape == (1, 2048)
    # torch.jit.load("inception_fid.pt") with these weights, on (255 x - 128) / 128
    assert features.double().sum().item() == pytest.approx(7760.462342351733, rel=1e-5)
    assert features.double().square().sum().item() == pytest.approx(81994.50637063618, rel=1e-5)
    expected = [9.627376556396484, 8.215259552001953, 2.940094470977783, 5.92002534866333]
    assert features[0, :4].tolist() == pytest.approx(expected, rel=1e-4)


def test_inception_reads_pytorch_fid_s_layout():
    names = ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    state: dict[str, Tensor] = {}
    for unit in ("Conv2d_1a_3x3", "Mixed_5b.branch1x1"):
        state.update({f"{unit}.{name}": torch.rand(4) for name in names})
        state[f"{unit}.bn.num_batches_tracked"] = torch.tensor(0)
    state["fc.weight"] = torch.rand(4)
    read = list(_units(state))
    assert len(read) == 2
    expected = [state[f"Mixed_5b.branch1x1.{names[n]}"] for n in (0, 2, 3, 4)]
    assert all(torch.equal(a, b) for a, b in zip(read[1], expected, strict=True))


def test_inception_refuses_other_weights():
    with pytest.raises(CheckpointError, match="not the weights of Inception"):
        Inception().load({"a.weight": torch.zeros(1), "a.beta": torch.zeros(1)})


def test_resize_puts_pixels_where_tensorflow_1_does():
    picture = torch.from_numpy(stream(4, 1, 1, 7, 5))
    result = resize_tf1(picture, 13)[0, 0].numpy()
    a = picture[0, 0].numpy()
    for i in range(13):
        for j in range(13):
            y, x = i * 7 / 13, j * 5 / 13
            y0, x0 = int(y), int(x)
            y1, x1, v, u = min(y0 + 1, 6), min(x0 + 1, 4), y - int(y), x - int(x)
            top, bottom = (a[k, x0] * (1 - u) + a[k, x1] * u for k in (y0, y1))
            assert result[i, j] == pytest.approx(top * (1 - v) + bottom * v, abs=1e-6)
    torch.testing.assert_close(resize_tf1(picture[..., :5, :], 5), picture[..., :5, :])


@pytest.mark.parametrize("counts", [(80, 70), (15, 12), (80, 12)])
def test_fid_agrees_with_the_matrix_root(counts: tuple[int, int]):
    mixing = stream(10, 20, 20)
    a, b = stream(11, counts[0], 20) @ mixing, stream(12, counts[1], 20) @ mixing + 0.1
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    gap = np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2)
    expected = gap + np.trace(s) + np.trace(t) - 2 * np.trace(np.real(sqrtm(s @ t)))
    assert distributions.fid(a, b) == pytest.approx(expected, rel=1e-5)
    assert distributions.fid(a, a) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("paired", [False, True])
def test_kid_agrees_with_its_definition(paired: bool):
    a = stream(13, 9, 6)
    b = a + 0.3 * stream(14, 9, 6)

    def mmd(x: np.ndarray, y: np.ndarray) -> float:
        n = len(x)
        inside = [(i, j) for i in range(n) for j in range(n) if i != j]
        across = [(i, j) for i in range(n) for j in range(n) if not (paired and i == j)]
        same = [(x[i] @ x[j] / 6 + 1) ** 3 + (y[i] @ y[j] / 6 + 1) ** 3 for i, j in inside]
        return float(np.mean(same) - 2 * np.mean([(x[i] @ y[j] / 6 + 1) ** 3 for i, j in across]))

    estimate = distributions.kid(a, b, paired=paired)
    left_out = [mmd(np.delete(a, i, axis=0), np.delete(b, i, axis=0)) for i in range(9)]
    spread = np.sqrt(8 / 9 * np.sum((np.array(left_out) - np.mean(left_out)) ** 2))
    assert estimate.value == pytest.approx(mmd(a, b), abs=1e-9)
    assert estimate.high - estimate.value == pytest.approx(1.96 * spread, abs=1e-9)
    assert estimate.value - estimate.low == pytest.approx(1.96 * spread, abs=1e-9)


def test_ids_agree_with_scikit_learn():
    # scikit-learn 1.8: LinearSVC(dual=False, tol=1e-10, max_iter=100000)
    real = stream(5, 60, 12)
    made = 0.9 * real + 0.04 + 0.3 * stream(6, 60, 12) - 0.1
    assert distributions.ids(real, made, minimum=60) == pytest.approx((35.0, 10 / 3))


def test_small_sets_are_refused():
    features = stream(7, 100, 4)
    with pytest.raises(ValueError, match="at least 5000 pictures, got 100"):
        distributions.ids(features, features)
    with pytest.raises(ValueError, match="as many pictures as truths"):
        distributions.kid(features, features[:50])
    with pytest.raises(ValueError, match="n of at least 2"):
        distributions.fid(features[:1], features)
