"""What more than one network is built of."""
