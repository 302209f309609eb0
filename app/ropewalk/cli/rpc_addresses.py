"""Lists of RPC servers on the command line: `192.168.1.20:50052,192.168.1.21:50052`."""

from __future__ import annotations

import click

from ropewalk.engine import RpcAddress


def rpc_addresses(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[RpcAddress, ...]:
    """An option's callback: addresses separated by commas, each once; none where the option is not given."""
    if value is None:
        return ()
    try:
        addresses = tuple(RpcAddress.parse(part) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter(
            f"{error}, a host's name or IPv4 address and a port; several are separated by commas"
        ) from error
    for address in addresses:
        if addresses.count(address) > 1:
            raise click.BadParameter(f"{address} is there twice")
    return addresses
