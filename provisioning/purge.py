"""Remove every object of one fleet from one host, without the database: what `make clean` calls.

Usage: ``python -m provisioning.purge --fleet ID --uri URI --engine ENGINE --pool DIRECTORY``
"""

import argparse
import sys

from provisioning.driver import DriverError, Engine, HostSpec, connect


def purge(host: HostSpec) -> int:
    """Power off and remove everything that carries the fleet's mark; returns how many runtimes."""
    with connect(host) as driver:
        inventory = driver.inventory()
        runtimes = (
            inventory.domains
            | inventory.networks
            | inventory.filters
            | inventory.volumes
            | inventory.personalisations
            | inventory.secrets
        )
        for runtime_id in runtimes:
            driver.remove_secret(runtime_id)
            driver.destroy(runtime_id)
            driver.remove_domain(runtime_id)
            driver.remove_personalisation(runtime_id)
            driver.remove_filter(runtime_id)
            driver.remove_network(runtime_id)
            driver.remove_volume(runtime_id)
        driver.remove_pool()
    return len(runtimes)


def main() -> int:
    """Command line; 0 when nothing of the fleet is left."""
    parser = argparse.ArgumentParser(description="Remove every libvirt object of one fleet.")
    parser.add_argument("--fleet", required=True)
    parser.add_argument("--uri", required=True)
    parser.add_argument("--engine", default="qemu", choices=[e.value for e in Engine])
    parser.add_argument("--pool", required=True)
    given = parser.parse_args()
    try:
        count = purge(HostSpec(given.uri, Engine(given.engine), given.fleet, given.pool))
    except DriverError as error:
        sys.stderr.write(f"purge: {error.message}\n")
        return 1
    sys.stdout.write(f"purge: {count} runtimes removed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
