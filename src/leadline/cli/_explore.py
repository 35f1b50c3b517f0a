"""``leadline explore``: interactive pages for the three instruments, in a browser."""

import sys
import threading
import webbrowser
from typing import Annotated
from urllib.parse import urlsplit

from cyclopts import Group, Parameter

from leadline.cli import DONE
from leadline.cli._options import Switch
from leadline.errors import InputError, SaveError

BROWSER = Group("Browser", sort_key=1)
NETWORK = Group("Network", sort_key=2)
"""Groups of options in the help."""


def explore(
    page: Annotated[str, Parameter(show_default=False)] = "",
    /,
    *,
    no_browser: Annotated[Switch, Parameter(group=BROWSER)] = False,
    port: Annotated[int, Parameter(group=NETWORK)] = 8050,
    host: Annotated[str, Parameter(group=NETWORK)] = "127.0.0.1",
    expose: Annotated[Switch, Parameter(group=NETWORK)] = False,
) -> int:
    """Serve the interactive pages on this machine until the command is interrupted.

    Parameters
    ----------
    page
        Page to open: gradients, search or representation, or a shared link to a page.
    no_browser
        Print the address, but do not open a browser.
    port
        Port to listen on. If it is in use, the next free port is taken. 0 takes any free port.
    host
        Address to listen on. Other machines cannot reach the default. Another address needs
        --expose.
    expose
        Allow other machines on the network to connect.
    """
    from leadline.explore import ROOMS, check_installed, is_loopback, open_server

    check_installed()
    from leadline.checks import shown

    rule = "PAGE must be the name of a page, or a link to a page"
    cure = f"use one of {', '.join(ROOMS)}"
    try:
        link = urlsplit(page)
    except ValueError as error:
        got = f"PAGE {shown(page)}"
        raise InputError(rule, got=got, cause=str(error), cure=cure) from None
    name = link.path.rpartition("/")[2]
    if name and name not in ROOMS:
        raise InputError(rule, got=f"PAGE {shown(page)}", cure=cure)
    if not is_loopback(host) and not expose:
        raise InputError(
            "--host must be an address of this machine only, unless --expose is given",
            got=f"--host {host}",
            cure=f"--host {host} --expose, or leave --host out",
        )
    import torch

    torch.set_num_threads(1)  # more threads are slower for matrices this small
    with open_server(host, port) as server:
        address = server.url(name + (f"?{link.query}" if link.query else ""))
        if port not in (0, server.port):
            print(f"leadline: port {port} is in use; using {server.port}", file=sys.stderr)
        if not is_loopback(host):
            warning = "leadline: everyone who knows this address can start training on this machine"
            print(warning, file=sys.stderr)
        try:
            print(address, flush=True)
        except OSError as error:  # a closed pipe, or a full disk
            raise SaveError(
                f"the address could not be printed: {error.strerror or error}"
            ) from error
        if not no_browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        server.serve()
    return DONE
