"""``leadline explore``: interactive pages for the three instruments, in a browser."""

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
    """Serve the interactive pages on this machine until the command is interrupted.

    The printed address contains a token, which is new at every start. Requests without the token
    are refused.

    Parameters
    ----------
    at
        A page (gradients, search, representation), or a shared link to one.
    port
        Port to listen on. If it is in use, the next free port; if it is 0, any free port.
    no_browser
        Print the address, but open no browser.
    host
        Address to listen on. Other machines can reach any but the default; this needs --expose.
    expose
        Allow other machines on the network to connect.
    """
    from leadline.explore import ROOMS, check_installed, is_loopback, open_server

    check_installed()
    from leadline.checks import shown

    try:
        shared = urlsplit(at)
    except ValueError as error:
        raise InputError(
            "explore takes a page or a link", got=shown(at), cause=str(error)
        ) from None
    name = shared.path.rpartition("/")[2]
    if name and name not in ROOMS:
        raise InputError(
            "explore takes a page or a link to one",
            got=shown(at),
            cure=f"the pages are {', '.join(ROOMS)}",
        )
    if not is_loopback(host) and not expose:
        raise InputError(
            "--host lets other machines connect, so it needs --expose",
            got=f"--host {host}",
            cure=f"--host {host} --expose, or leave --host out",
        )
    import torch

    torch.set_num_threads(1)  # more threads are slower for matrices this small
    with open_server(host, port) as server:
        address = server.url(name + (f"?{shared.query}" if shared.query else ""))
        if port not in (0, server.port):
            print(f"leadline: port {port} is in use; using {server.port}", file=sys.stderr)
        if not is_loopback(host):
            warning = "leadline: anyone who knows this address can run work on this machine"
            print(warning, file=sys.stderr)
        try:
            print(address, flush=True)
        except OSError as error:  # a closed pipe, or a full disk
            raise SaveError(
                f"explore could not print its address: {error.strerror or error}"
            ) from error
        if not no_browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        server.serve()
    return DONE
