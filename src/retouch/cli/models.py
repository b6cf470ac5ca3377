"""`retouch models`: which networks and weights there are."""


def models() -> None:
    """List the networks, what each is, and the weights at hand for it."""
    from rich.console import Console
    from rich.table import Table

    from retouch import models as registry
    from retouch.weights import files, named

    console = Console()
    at_hand = {name: files.read_header(path) for name, path in named.available().items()}
    heads = ("network", "weights at hand", "tasks", "sizes", "CPU s per MP", "paper")
    table = Table(*heads, title="Networks")
    for name in registry.names():
        card = registry.card(name)
        weights = [key for key, header in at_hand.items() if header.network == name]
        size = (
            f"{card.fixed_size} px only" if card.fixed_size else f"multiples of {card.multiple_of}"
        )
        local = ", local" if card.context(card.config()) is not None else ""
        cost = f"{card.cost:.3g}" if card.cost else "-"
        tasks = ", ".join(card.tasks)
        table.add_row(name, "\n".join(weights) or "-", tasks, size + local, cost, card.paper)
    console.print(table)
    console.print(
        "Any picture size works: Retouch cuts, pads and enlarges. "
        "Only crops round the holes are computed; the cost is that of one modern core, see"
        " docs/speed.md. "
        f"Default: {named.DEFAULT}. Official checkpoints: retouch weights import FILE."
    )
