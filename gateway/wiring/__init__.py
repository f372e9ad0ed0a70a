"""How the parts are put together, a module for each kind of part; `gateway.app` makes one whole of them."""
