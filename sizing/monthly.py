"""Monthly: what each engine host costs in a month - written off or rented, its power, its part of the other costs.

Purchase is spread evenly over the years. Power is what is given for GPU and host, else the most that the catalogue says
the board draws. Rent goes by the devices of a host, the other costs by what the hosts cost without them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sizing.costs import HOURS_A_YEAR, Costs, GpuPrice
from sizing.device import find_gpu
from sizing.errors import SizingError, UnknownFact

MONTHS_A_YEAR = 12
SECONDS_A_MONTH = HOURS_A_YEAR / MONTHS_A_YEAR * 3600


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One engine host, with every GPU that is in it, used or not."""

    name: str
    gpu_names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Month:
    """What something costs in a month, by what for."""

    hardware: float
    power: float
    other: float

    @property
    def total(self) -> float:
        return self.hardware + self.power + self.other

    def times(self, ratio: float) -> "Month":
        return Month(hardware=self.hardware * ratio, power=self.power * ratio, other=self.other * ratio)


def sum_of(months: Iterable[Month]) -> Month:
    """All of them together."""
    listed = list(months)
    return Month(
        hardware=sum(one.hardware for one in listed),
        power=sum(one.power for one in listed),
        other=sum(one.other for one in listed),
    )


def months_of(machines: Sequence[Machine], costs: Costs) -> dict[str, Month]:
    """The month of each machine by its name; raises SizingError where a price or a power is not known."""
    _refuse_strangers(machines, costs)
    device_counts = {machine.name: max(1, len(machine.gpu_names)) for machine in machines}
    own = {}
    for machine in machines:
        priced = [(name, _price_of(name, machine, costs)) for name in machine.gpu_names] if costs.gpus else []
        if costs.rent_per_month is not None:
            hardware = costs.rent_per_month * device_counts[machine.name] / sum(device_counts.values())
        else:
            purchase = costs.host.price + sum(price.price for _, price in priced)
            hardware = purchase / costs.years / MONTHS_A_YEAR
        watts = 0.0
        if costs.power_price_per_kwh > 0:
            watts = costs.host.power_watts + sum(_watts(name, price) for name, price in priced)
        kilowatt_hours = watts / 1000 * costs.pue * HOURS_A_YEAR / MONTHS_A_YEAR
        own[machine.name] = Month(hardware=hardware, power=kilowatt_hours * costs.power_price_per_kwh, other=0.0)
    everything = sum_of(own.values()).total
    return {
        name: Month(hardware=month.hardware, power=month.power, other=costs.other_per_month * month.total / everything)
        for name, month in own.items()
    }


def _refuse_strangers(machines: Sequence[Machine], costs: Costs) -> None:
    there = {_canonical(name) for machine in machines for name in machine.gpu_names}
    for name in costs.gpus:
        if _canonical(name) not in there:
            known = ", ".join(sorted(there)) or "no GPU"
            raise SizingError(
                f"costs.gpus prices {name}, which no engine host has (there is {known}); correct the name"
            )


def _price_of(gpu_name: str, machine: Machine, costs: Costs) -> GpuPrice:
    for name, price in costs.gpus.items():
        if _canonical(name) == _canonical(gpu_name):
            return price
    raise SizingError(f"costs.gpus has no price for {gpu_name} of {machine.name}; add it")


def _watts(gpu_name: str, price: GpuPrice) -> float:
    if price.power_watts is not None:
        return price.power_watts
    try:
        watts = find_gpu(gpu_name).tdp_w
    except UnknownFact:
        watts = None
    if watts is None:
        raise SizingError(f"the catalogue does not know what {gpu_name} draws; give its power_watts in costs.gpus")
    return watts


def _canonical(gpu_name: str) -> str:
    try:
        return find_gpu(gpu_name).nvml_name
    except UnknownFact:
        return gpu_name
