"""Picture sets, masks and the batches made of them."""
