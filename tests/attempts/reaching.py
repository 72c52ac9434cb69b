"""Reaching what is not for servers: this machine, the hub, the local network, clouds' metadata, others."""

from __future__ import annotations

from . import Attempt

KIND = "reaching"

# On Docker's own bridge, where no rule of ours holds.
_OPEN = ("--user", "1000:1000")
_WITH_IPV6 = (
    *_OPEN,
    *("--sysctl", "net.ipv6.conf.all.disable_ipv6=0", "--sysctl", "net.ipv6.conf.default.disable_ipv6=0"),
)

KNOCK = """
import socket
def answers(host, port, family=socket.AF_INET, seconds=2):
    try:
        with socket.socket(family, socket.SOCK_STREAM) as knocking:
            knocking.settimeout(seconds)
            knocking.connect((host, port) if family == socket.AF_INET else socket.getaddrinfo(
                host, port, family, socket.SOCK_STREAM)[0][4])
            knocking.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')
            return bool(knocking.recv(1))
    except OSError:
        return False
"""
_KNOCK_6 = (
    KNOCK
    + """
six = socket.AF_INET6
def has_ipv6():
    try:
        return bool(open('/proc/net/if_inet6').read())
    except OSError:
        return False
"""
)


def _any(hosts: str, port: str) -> str:
    return f"{KNOCK}got = [each for each in {hosts} if answers(each, {port})]"


ATTEMPTS = [
    Attempt(
        "a service of this machine on every IPv4 address",
        _any("place['addresses']", "place['service']"),
        _OPEN,
    ),
    Attempt(
        "a service of this machine by UDP",
        """
import socket
def echoes(host):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(1)
        try:
            asking.sendto(b'are you there', (host, place['service']))
            return bool(asking.recv(100))
        except OSError:
            return False
got = [each for each in place['addresses'] if echoes(each)]
""",
        _OPEN,
    ),
    Attempt(
        "a service of this machine by its link-local IPv6 address",
        # A new address is tentative for some seconds (RFC 4862, section 5.4).
        _KNOCK_6
        + """
import time
end = time.monotonic() + 5
got = []
while not got and has_ipv6() and time.monotonic() < end:
    got = [each for each in place['link_local'] if answers(each + '%eth0', place['service'], six)]
""",
        _WITH_IPV6,
    ),
    Attempt(
        "having IPv6 at all",
        _KNOCK_6 + "got = has_ipv6()",
        _WITH_IPV6,
    ),
    Attempt(
        "a port that another container publishes",
        _any("place['addresses']", "place['published']"),
        _OPEN,
    ),
    Attempt("the hub on loopback", _any("['127.0.0.1']", "place['hub_port']"), (*_OPEN, "--network", "host")),
    Attempt(
        "the proxy on loopback", _any("['127.0.0.1']", "place['proxy_port']"), (*_OPEN, "--network", "host")
    ),
    Attempt(
        "hub and proxy on every address",
        _any("place['addresses']", "place['hub_port']") + "\ngot += [each for each in place['addresses'] "
        "if answers(each, place['proxy_port'])]",
        None,
        "they listen on loopback alone, which the attempts above show",
    ),
    Attempt("the cloud's metadata service", _any("place['metadata']", "80"), _OPEN),
    Attempt(
        "the cloud's metadata service by IPv6",
        _KNOCK_6 + "got = answers('fd00:ec2::254', 80, six)",
        None,
        "this machine has no such service; that no server has IPv6 is an attempt of its own",
    ),
    Attempt("a machine of the local network", _any("[place['lan']]", "place['lan_port']"), _OPEN),
    Attempt(
        "another person's server",
        _any("[place['victim']]", "8888"),
        (*_OPEN, "--network", "host"),
    ),
    Attempt(
        "another person's server by the way of this machine's addresses",
        _any("place['addresses']", "8888"),
        None,
        "no server's port is published",
    ),
    Attempt(
        "the listener's port on other addresses of this machine",
        _any("[each for each in place['addresses'] if each != place['gateway']]", "place['listener']"),
        None,
        "the listener has one address",
    ),
    Attempt(
        "the names of others that run",
        "import socket\ntry:\n    got = socket.gethostbyaddr(place['victim'])[0]\n"
        "except OSError:\n    got = ''",
        None,
        "Docker's name server answers in every network of its own",
        expected=True,
        page="A server can learn which other servers run",
    ),
    Attempt(
        "the internet",
        _any("[place['public']]", "80"),
        _OPEN,
        expected=True,
        page="A server can send to the internet",
    ),
]
