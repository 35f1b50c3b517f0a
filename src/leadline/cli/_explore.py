"""``leadline explore``: the instruments behind sliders, in a browser."""

import sys
import threading
import webbrowser
from urllib.parse import urlsplit

from leadline.cli import DONE
from leadline.cli._output import Switch
from leadline.errors import InputError, SaveError


def explore(
    at: str = "",
    /,
    *,
    port: int = 8050,
    no_browser: Switch = False,
    host: str = "127.0.0.1",
    expose: Switch = False,
) -> int:
    """Open the interactive pages, and serve them until they are interrupted.

    Everything is computed and served by this machine; the address that is printed holds a token that changes at every
    start, and nobody without it is answered.

    Parameters
    ----------
    at
        A room (gradients, search, representation), or the link of a finding that somebody shared.
    port
        Where to listen; the next free port if it is in use, any free one for 0.
    no_browser
        Only print the address.
    host
        Another address of this machine to listen on, for others to reach it. Needs --expose.
    expose
        Yes, others on the network may reach it.
    """
    from leadline.explore import ROOMS, check_installed, is_loopback, open_server

    check_installed()
    from leadline.checks import shown

    try:
        shared = urlsplit(at)
    except ValueError as error:
        raise InputError("a link leads to a room", got=shown(at), cause=str(error)) from None
    name = shared.path.rpartition("/")[2]
    if name and name not in ROOMS:
        raise InputError(
            "a link leads to a room", got=shown(at), cure=f"the rooms are {', '.join(ROOMS)}"
        )
    if not is_loopback(host) and not expose:
        raise InputError(
            "others on the network are let in on purpose only",
            got=f"--host {host}",
            cure=f"--host {host} --expose, or leave --host away",
        )
    import torch

    torch.set_num_threads(1)  # of matrices this small, more threads only wait for one another
    with open_server(host, port) as server:
        address = server.url(name + (f"?{shared.query}" if shared.query else ""))
        if port not in (0, server.port):
            print(f"leadline: port {port} is in use, so this is {server.port}", file=sys.stderr)
        if not is_loopback(host):
            print(
                "leadline: whoever learns this address can use this machine's time", file=sys.stderr
            )
        try:
            print(address, flush=True)
        except OSError as error:  # a pipe that nobody reads, or a full disk
            raise SaveError(
                f"the explorer's address could not be printed: {error.strerror or error}"
            ) from error
        if not no_browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        server.serve()
    return DONE
