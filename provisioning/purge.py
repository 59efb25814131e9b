"""Remove every object of one fleet from one host, without the database: what `make clean` calls.

Usage: ``python -m provisioning.purge --fleet ID --uri URI --engine ENGINE --pool DIRECTORY``
"""

import argparse
import sys
import time
from contextlib import suppress
from dataclasses import replace

from provisioning.driver import DriverError, Engine, HostSpec, LibvirtDriver, connect
from provisioning.egress.reports import NOTHING, Report, ReportError, parse
from provisioning.egress.rules import MAX_GENERATION, Rules

_KEEPER_SECONDS = 10.0
_POLL_SECONDS = 0.1


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
        _close_egress(driver)
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


def _close_egress(driver: LibvirtDriver) -> None:
    """Have the proxy serve nobody, if its keeper runs; then forget the keeper."""
    path = driver.egress_path()
    if not path:
        return
    driver.host = replace(driver.host, egress_path=path)
    report = _report(driver)
    number = max(report.generation, report.refused) + 1
    if report.serving and number <= MAX_GENERATION:
        driver.egress_put(number, Rules(number, driver.host.fleet, ()).to_bytes())
        deadline = time.monotonic() + _KEEPER_SECONDS
        while _report(driver).generation < number and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
    driver.egress_remove()


def _report(driver: LibvirtDriver) -> Report:
    with suppress(ReportError):
        return parse(driver.egress_state())
    return NOTHING


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
