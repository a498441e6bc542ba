"""One folder a head: a torch module, the component that feeds it, its scorer."""
