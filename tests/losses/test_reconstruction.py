"""Pixel losses against values worked out by hand."""

import torch

from retouch.losses.reconstruction import l1, l1_per_share, masked_l1

TARGET = torch.zeros(1, 1, 2, 2)
PREDICTION = torch.tensor([[[[1.0, -2.0], [3.0, 6.0]]]])
MASK = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])


def test_l1_is_the_mean_absolute_difference():
    assert l1(PREDICTION, TARGET) == 3.0


def test_l1_per_share_divides_by_the_share():
    assert l1_per_share(PREDICTION, TARGET, torch.tensor(0.25)) == 12.0


def test_masked_l1_is_the_mean_over_the_mask():
    assert masked_l1(PREDICTION, TARGET, MASK, MASK.mean()) == 3.5
    assert masked_l1(PREDICTION, TARGET, 1 - MASK, (1 - MASK).mean()) == 2.5


def test_masked_l1_counts_channels_once():
    three = PREDICTION.repeat(1, 3, 1, 1)
    assert masked_l1(three, torch.zeros_like(three), MASK, MASK.mean()) == 3.5


def test_masked_l1_of_nothing_is_zero():
    assert masked_l1(PREDICTION, TARGET, MASK * 0, torch.tensor(0.0)) == 0.0


def test_micro_batches_average_to_the_whole_batch():
    prediction, target = torch.rand(2, 4, 3, 8, 8)
    mask = (torch.rand(4, 1, 8, 8) < 0.3).float()
    share = mask.mean()
    whole = masked_l1(prediction, target, mask, share)
    parts = [
        masked_l1(prediction[i : i + 2], target[i : i + 2], mask[i : i + 2], share) for i in (0, 2)
    ]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)
