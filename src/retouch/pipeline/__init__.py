"""How a network is run on a real picture: crops round the holes, working size, detail,
compositing."""
