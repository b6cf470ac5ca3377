"""Training losses: plain functions on tensors, each with an oracle in the tests."""
