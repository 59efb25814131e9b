"""Addresses that the proxy never connects to, whatever name led there: one table for proxy and packet filter.

The ranges for documentation are not in it: nothing answers there, and the tests' stand-ins do.
"""

FORBIDDEN_V4 = (
    "0.0.0.0/8",  # this network
    "10.0.0.0/8",  # private
    "100.64.0.0/10",  # carriers' translation
    "127.0.0.0/8",  # loopback
    "169.254.0.0/16",  # link-local, clouds' metadata
    "172.16.0.0/12",  # private
    "192.0.0.0/24",  # protocol assignments
    "192.88.99.0/24",  # 6to4 relays
    "192.168.0.0/16",  # private
    "198.18.0.0/15",  # benchmarks
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, broadcast
)
"""And all of IPv6: guests and proxy have IPv4 only."""
