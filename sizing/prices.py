"""Prices: what hardware costs the operator, from a file that the operator writes. No price is ever guessed.

schema_version: 1
currency: EUR
years: 3                          # how long it runs
power_price_per_kwh: 0.25
gpus:
  NVIDIA L40S: {price: 8000}      # power: the catalogue's, unless `power_watts` is given
host: {price: 12000, power_watts: 800, gpus_at_most: 8}
"""

from typing import Self

from pydantic import Field, model_validator

from sizing.costs import HOURS_A_YEAR, GpuPrice, HostPrice
from sizing.device import GpuFacts, find_gpu
from sizing.documents import Document, Part
from sizing.errors import UnknownFact


class Prices(Document):
    """Everything that `--buy` may choose from."""

    currency: str = Field(default="EUR", min_length=1, max_length=8)
    years: float = Field(default=3.0, gt=0, le=20)
    power_price_per_kwh: float = Field(default=0.0, ge=0)
    gpus: dict[str, GpuPrice] = Field(min_length=1)
    host: HostPrice = HostPrice()

    @model_validator(mode="after")
    def _gpus_are_known(self) -> Self:
        for name in self.gpus:
            try:
                find_gpu(name)
            except UnknownFact as error:
                raise ValueError(str(error)) from None
        return self

    def rows(self) -> tuple[tuple[GpuFacts, GpuPrice], ...]:
        """The catalogue's facts of each GPU beside its price."""
        return tuple((find_gpu(name), price) for name, price in self.gpus.items())


class Bill(Part):
    """What a number of GPUs costs. Power is what is drawn at most (`power_watts` of the file, else the board's TDP)."""

    gpu_count: int
    host_count: int
    purchase: float
    power_watts: float | None
    power_cost: float
    total: float
    currency: str


def bill_for(prices: Prices, row: GpuFacts, price: GpuPrice, gpu_count: int) -> Bill:
    """Hosts are bought whole."""
    hosts = -(-gpu_count // prices.host.gpus_at_most)
    each_watts = price.power_watts or row.tdp_w
    watts = None if each_watts is None else gpu_count * each_watts + hosts * prices.host.power_watts
    power_cost = (watts or 0.0) / 1000 * HOURS_A_YEAR * prices.years * prices.power_price_per_kwh
    purchase = gpu_count * price.price + hosts * prices.host.price
    return Bill(
        gpu_count=gpu_count,
        host_count=hosts,
        purchase=purchase,
        power_watts=watts,
        power_cost=power_cost,
        total=purchase + power_cost,
        currency=prices.currency,
    )
