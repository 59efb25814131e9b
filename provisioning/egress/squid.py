"""Squid's whole configuration from a rule document. Pure.

How a request to connect is judged (Squid 5.7; each line of this was seen in experiments, docs/egress.md):

1. CONNECT arrives. Squid answers a CONNECT that ``http_access`` denies on such a port by *decrypting* the
   tunnel to show an error page. So ``http_access`` denies none: it only notes why, and hands what is to be
   refused to ``ssl_bump splice`` at once, where ``miss_access`` answers 403 in the clear.
2. What may go on is peeked at: Squid answers 200 and reads the TLS hello. Its server name must be there, be
   the name in CONNECT, and be allowed; else the connection ends.
3. Then Squid makes a CONNECT of its own, which passes ``http_access`` again (names are resolved again) and
   ``miss_access``. Only such a one, with step 2 behind it, is ever let through: if a rule of step 1 fails to
   match, the request ends here.
"""

from dataclasses import dataclass
from pathlib import Path

from provisioning.egress.ranges import FORBIDDEN_V4
from provisioning.egress.records import FORMAT
from provisioning.egress.rules import AllowedHost, TenantRules

MAX_TUNNELS = 128
"""Connections of one guest at one time; a guest has one address."""
MARK_HEADER = "Egress-Mark"
"""In the answers of the keeper's own port: which configuration Squid obeys."""
_SPARE_DESCRIPTORS = 256
_PER_TUNNEL = 2


@dataclass(frozen=True)
class Proxy:
    """What the keeper knows of its own host; none of it comes from a worker."""

    port: int
    folder: Path
    """Squid's private folder: configuration, certificate, log of its own."""
    access_log: Path
    nameservers: tuple[str, ...]
    keeper_port: int
    """On 127.0.0.1; tells which configuration is in force."""
    descriptors: int
    """Files and sockets that Squid may have open."""
    dns_seconds: int = 10
    """How long an answer of the name server is believed at least."""


def render(tenants: tuple[TenantRules, ...], proxy: Proxy, mark: str) -> str:
    """The configuration that serves ``tenants``; ``mark`` is what the keeper's own port answers."""
    parts = (
        _process(proxy, len(tenants)),
        _ports(proxy, tenants),
        _names(tenants),
        _judgement(),
        _log(proxy),
    )
    health = f'reply_header_add {MARK_HEADER} "{mark}" from_here\n'
    return (
        "# Written by the egress keeper; it writes this anew with each change.\n" + "\n".join(parts) + health
    )


def tunnels(proxy: Proxy, tenants: int) -> int:
    """Connections that each guest may have, so that all of them together leave descriptors over."""
    share = (proxy.descriptors - _SPARE_DESCRIPTORS) // (_PER_TUNNEL * max(tenants, 1))
    return max(2, min(MAX_TUNNELS, share))


def _process(proxy: Proxy, tenants: int) -> str:
    """Nothing is cached, nothing is told to anybody, no helper runs, and each wait ends.

    Squid lets one connection more through than ``client_ip_max_connections`` says.
    """
    return f"""\
visible_hostname egress
httpd_suppress_version_string on
pid_filename none
coredump_dir none
cache_log {proxy.folder}/cache.log
logfile_rotate 0
cache deny all
cache_mem 0 bytes
memory_pools off
digest_generation off
pinger_enable off
netdb_filename none
icp_port 0
htcp_port 0
snmp_port 0
forwarded_for delete
sslproxy_session_cache_size 0
max_filedescriptors {proxy.descriptors}
client_ip_max_connections {tunnels(proxy, tenants) - 1}
hosts_file none
dns_defnames off
dns_multicast_local off
dns_nameservers {" ".join(proxy.nameservers)}
dns_timeout 5 seconds
negative_dns_ttl {proxy.dns_seconds} seconds
positive_dns_ttl 5 minutes
request_start_timeout 10 seconds
request_timeout 10 seconds
client_idle_pconn_timeout 10 seconds
connect_timeout 10 seconds
forward_timeout 20 seconds
read_timeout 15 minutes
client_lifetime 4 hours
half_closed_clients off
shutdown_lifetime 1 second
request_header_max_size 16 KB
reply_header_max_size 16 KB
client_request_buffer_max_size 64 KB
request_body_max_size 1 KB
relaxed_header_parser off
global_internal_static off
"""


def _ports(proxy: Proxy, tenants: tuple[TenantRules, ...]) -> str:
    """A listening address for each runtime. Squid demands a certificate, and never shows it to anybody."""
    bump = f"ssl-bump generate-host-certificates=off tls-cert={proxy.folder}/unused.pem tcpkeepalive=60,30,3"
    lines = [f"http_port 127.0.0.1:{proxy.keeper_port} name=keeper"]
    lines += [f"http_port {each.listen}:{proxy.port} name={each.runtime} {bump}" for each in tenants]
    return "\n".join(lines) + "\n"


def _names(tenants: tuple[TenantRules, ...]) -> str:
    """Who may reach what: ``allowed``; and whether the two names of a request are one: ``same_name``."""
    names = sorted({host.name for each in tenants for host in each.hosts})
    ports = sorted({host.port for each in tenants for host in each.hosts})
    lines = ["acl nothing all-of !all", *(f"acl port_{port} port {port}" for port in ports)]
    for number, name in enumerate(names):
        lines += [
            f"acl asked_{number} dstdomain -n {name}",
            f"acl hello_{number} ssl::server_name --client-requested {name}",
            f"acl same_{number} all-of asked_{number} hello_{number}",
        ]
    lines.append(_any_of("same_name", [f"same_{number}" for number in range(len(names))]))
    for number, each in enumerate(tenants):
        lines += _tenant(number, each)
    lines.append(
        _any_of("allowed", [f"t{number}_allowed" for number, each in enumerate(tenants) if each.hosts])
    )
    return "\n".join(lines) + "\n"


def _tenant(number: int, tenant: TenantRules) -> list[str]:
    """One runtime: its own listening address, its own source address, and its own hosts."""
    me = f"t{number}"
    lines = [
        f"acl {me}_port myportname {tenant.runtime}",
        f"acl {me}_src src {tenant.guest}/32",
        f"note runtime {tenant.runtime} {me}_port",
    ]
    by_port: dict[int, list[AllowedHost]] = {}
    for host in tenant.hosts:
        by_port.setdefault(host.port, []).append(host)
    for port, hosts in by_port.items():
        lines.append(f"acl {me}_names_{port} dstdomain -n {' '.join(host.name for host in hosts)}")
        lines.append(f"acl {me}_to_{port} all-of port_{port} {me}_names_{port}")
    if by_port:
        lines.append(_any_of(f"{me}_to", [f"{me}_to_{port}" for port in by_port]))
        lines.append(f"acl {me}_allowed all-of {me}_port {me}_src {me}_to")
    return lines


def _any_of(name: str, members: list[str]) -> str:
    """A group; Squid has no empty one, so that is ``nothing``."""
    return f"acl {name} any-of {' '.join(members) or 'nothing'}"


def _judgement() -> str:
    """The rules themselves. See the module's text; each list ends with a refusal."""
    return f"""\
acl CONNECT method CONNECT
acl keeper myportname keeper
acl from_here src 127.0.0.1/32
acl at_connect at_step SslBump1
acl at_hello at_step SslBump2
acl forbidden dst {" ".join(FORBIDDEN_V4)} ipv6
acl resolved dst 0.0.0.0/1 128.0.0.0/1
acl note_hello annotate_transaction hello="%ssl::>sni"
acl no_hello_name note hello -
acl why_method annotate_transaction reason=method
acl why_name annotate_transaction reason=name
acl why_dns annotate_transaction reason=dns
acl why_range annotate_transaction reason=range
acl why_sni annotate_transaction reason=sni
acl why_no_sni annotate_transaction reason=no_sni
acl spliced annotate_transaction stage=spliced
acl refused note reason
acl passed_on note stage spliced

http_access deny !CONNECT why_method
http_access deny keeper
http_access deny at_hello note_hello no_hello_name why_no_sni
http_access deny at_hello !same_name why_sni
http_access deny at_hello !allowed why_name
http_access deny at_hello !resolved why_dns
http_access deny at_hello forbidden why_range
http_access allow at_hello
http_access allow at_connect !allowed why_name
http_access allow at_connect !resolved why_dns
http_access allow at_connect forbidden why_range
http_access allow at_connect
http_access deny all

ssl_bump splice at_connect refused
ssl_bump peek at_connect
ssl_bump terminate at_hello note_hello no_hello_name why_no_sni
ssl_bump splice at_hello allowed same_name spliced
ssl_bump terminate all why_sni
on_unsupported_protocol respond all

miss_access allow at_hello allowed same_name
miss_access deny all
always_direct allow all
"""


def _log(proxy: Proxy) -> str:
    """One line for each attempt: a passed tunnel is logged at its end, and not when its hello was read.

    What cannot be recorded does not happen: Squid ends if it cannot write, for want of space for example.
    """
    return f"""\
logformat record {FORMAT}
acl with_request has request
access_log none with_request passed_on
access_log none with_request keeper
access_log stdio:{proxy.access_log} logformat=record on-error=die
"""
